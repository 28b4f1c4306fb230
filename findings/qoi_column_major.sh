#!/bin/bash
# qoi writes an array whose columns come first in memory as another picture, where it refuses all other views.
#
# Expected: the picture, or the ValueError "array should be C-contiguous", which the documentation promises for arrays
# that are not contiguous, and which mirrored, cropped and BGR views raise.
# Seen with qoi 0.8.0: an array in Fortran order passes the check, and its memory is written as if it lay in C order. It
# is scrambled, though shape, size of file and all checks are right. write() does the same as encode().
# Why it matters: such arrays come from np.asfortranarray(), from MATLAB and HDF5 files, and from transposing all axes
# of a picture with its colours first. QOI keeps every pixel, so nobody compares.
# Without it: np.ascontiguousarray(picture).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    qoi==0.8.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - "$folder/picture.qoi" <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import qoi

picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
planes = np.ascontiguousarray(picture.T)  # colours, columns, rows
views = {
    "C order": picture,
    "Fortran order": np.asfortranarray(picture),
    "all axes turned": planes.T,
    "BGR": picture[..., ::-1],
    "mirrored": picture[:, ::-1],
    "cropped": picture[:, 1:],
}
print(f"qoi {importlib.metadata.version('qoi')}")
for name, view in views.items():
    try:
        read = qoi.decode(qoi.encode(view))
    except ValueError as error:
        print(f"{name}: {error}")
        assert name in ("BGR", "mirrored", "cropped"), "the behaviour has changed"
        continue
    qoi.write(sys.argv[1], view)
    print(f"{name}: given {view.reshape(8, 3).tolist()}, read {read.reshape(8, 3).tolist()}")
    right = np.array_equal(read, view)
    assert right == (name == "C order") and read.shape == view.shape, "the behaviour has changed"
    assert np.array_equal(read, qoi.read(sys.argv[1])), "the behaviour has changed"
    assert right or np.array_equal(read.ravel(), view.ravel(order="K")), "the behaviour has changed"
PYTHON
