#!/bin/bash
# dask-image's affine_transform() puts all chunks but the first at another place if the matrix is given as its diagonal.
#
# Expected: "matrix : array (ndim,), ..." is a matrix given by its diagonal, as in SciPy, and output_chunks says only
# how the answer is divided. The picture is the same as with the full matrix, and as SciPy's.
# Seen with dask-image 2026.5.0: with several chunks, the place of a chunk is computed with the dot product of diagonal
# and position, which is one number for all axes, instead of a product for each axis. Only what begins at 0 is right.
# With one chunk, or with the full matrix of the same numbers, the picture is right.
# Why it matters: enlarging and shrinking is what a diagonal is for, and chunks are what dask is for. The picture has
# the right size and shows other parts of the photo, or nothing, in most of its chunks.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    dask-image==2026.5.0 dask==2026.8.0 scipy==1.17.1 numpy==2.4.6 pims==0.7 tifffile==2026.3.3
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import dask.array
import numpy as np
from dask_image import ndinterp
from scipy import ndimage

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("dask-image", "dask", "scipy", "numpy")))
photo = np.add.outer(1000.0 * np.arange(24), np.arange(32))  # each number says its row and column
chunked = dask.array.from_array(photo, chunks=(8, 8))
for scales in ((0.5, 0.5), (0.5, 0.75)):
    right = ndimage.affine_transform(photo, scales, order=1)
    by_hand = 1000 * scales[0] * np.arange(24)[:, None] + scales[1] * np.arange(32)
    assert np.allclose(right, by_hand)
    for chunks in ((24, 32), (8, 8)):
        full = ndinterp.affine_transform(chunked, np.diag(scales), output_chunks=chunks).compute()
        assert np.allclose(full, right)
        diagonal = ndinterp.affine_transform(chunked, np.array(scales), output_chunks=chunks).compute()
        wrong = ~np.isclose(diagonal, right)
        print(f"scales {scales}, chunks {chunks}: {wrong.mean():.0%} of the pixels differ from SciPy's")
        assert not wrong[:chunks[0], :chunks[1]].any()
        assert (wrong.mean() > 0.8) == (chunks == (8, 8)), "the behaviour has changed"
        if chunks == (8, 8):
            print(f"  pixel (8, 0): {diagonal[8, 0]}, right is {right[8, 0]}")
            assert diagonal[8, 0] != right[8, 0], "the behaviour has changed"
PYTHON
