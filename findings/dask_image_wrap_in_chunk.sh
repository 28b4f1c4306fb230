#!/bin/bash
# dask-image's filters with mode="wrap" take the pixels beyond the border from the same chunk, not from the other side.
#
# Expected: with mode="wrap" the pixel left of the first column is that of the last column of the picture, as in SciPy,
# however the picture is divided into chunks.
# Seen with dask-image 2026.5.0: convolve() and correlate() do so. uniform_filter(), gaussian_filter(), median_filter(),
# maximum_filter(), sobel(), laplace() and the other filters wrap round in the first or last chunk and the few pixels
# that are lent to it, so that a strip along the border is filtered with pixels from the inside of the picture.
# Why it matters: wrapping is used for panoramas and tiles that are to fit together. A picture of one chunk is right,
# and so a small test does not show it; the seam is there in the large picture only.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    dask-image==2026.5.0 dask==2026.8.0 scipy==1.17.1 numpy==2.4.6 pims==0.7 tifffile==2026.3.3
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import dask.array
import numpy as np
from dask_image import ndfilters
from scipy import ndimage

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("dask-image", "dask", "scipy", "numpy")))
photo = np.zeros((24, 32))
photo[:, -1] = 9  # a bright last column, which is beside the first one if the picture is wrapped
kernel = np.full((3, 3), 1 / 9)
calls = {"correlate": (kernel,), "convolve": (kernel,), "uniform_filter": (3,), "gaussian_filter": (1,),
         "maximum_filter": (3,), "percentile_filter": (80, 3), "sobel": (1,), "laplace": ()}
for name, arguments in calls.items():
    right = getattr(ndimage, name)(photo, *arguments, mode="wrap")
    assert abs(right[12, 0]) > 0.5 and np.allclose(right, right[0])
    answers = {}
    for chunks in ((24, 32), (8, 8)):
        chunked = dask.array.from_array(photo, chunks=chunks)
        answers[chunks] = getattr(ndfilters, name)(chunked, *arguments, mode="wrap").compute()
    one, many = answers[(24, 32)], answers[(8, 8)]
    numbers = f"{one[12, 0]:.2f} with one chunk, {many[12, 0]:.2f} with 12"
    print(f"{name}: first column {right[12, 0]:.2f} in SciPy, {numbers}")
    assert np.allclose(one, right)
    assert np.allclose(many, right) == (name in ("correlate", "convolve")), "the behaviour has changed"
    if name not in ("correlate", "convolve"):
        assert many[12, 0] == 0, "the behaviour has changed"
PYTHON
