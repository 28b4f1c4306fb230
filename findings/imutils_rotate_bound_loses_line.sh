#!/bin/bash
# imutils' rotate_bound loses a row or a column of pixels at each quarter turn, and has a black one in its place.
#
# Expected: rotate_bound is the one that "ensures the entire image is inside the bound"; by 90, 180 and 270 degrees it
# gives every pixel, as numpy.rot90 does.
# Seen with imutils 0.5.4: by 90 degrees the first row of the picture is gone, everything lies a column further right,
# and the first column is black; by 180 degrees the first row and the first column are gone, by 270 the first column. By
# 0 and 360 degrees the picture stays. The turn is about the corner behind the middle pixel, and not about its middle.
# Why it matters: turned photos for training have a black line at one side, which a network can learn to see, and boxes
# and masks that are turned by arithmetic are off by a pixel.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    imutils==0.5.4 opencv-python-headless==5.0.0.93 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import imutils
import numpy as np

packages = ("imutils", "opencv-python-headless", "numpy")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
picture = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
for degrees, lost in ((0, []), (90, [1, 2, 3, 4]), (180, [1, 2, 3, 4, 5, 9]), (270, [1, 5, 9]), (360, [])):
    turned = imutils.rotate_bound(picture, degrees)
    right = np.rot90(picture, -degrees // 90)
    missing = sorted({*picture.ravel().tolist()} - {*turned.ravel().tolist()})
    print(f"{degrees} degrees: pixels {missing} are gone, {int((turned == 0).sum())} are black")
    print(turned)
    assert turned.shape == right.shape
    assert np.array_equal(turned, right) == (degrees in (0, 360)), "the behaviour has changed"
    assert missing == lost, "the behaviour has changed"
PYTHON
