#!/bin/bash
# bbox-utils rounds the centre of a box down to a whole pixel before it writes it as a part of the picture.
#
# Expected: to_yolo() gives the centre, width and height of the box as parts of the picture's size, so that from_yolo()
# gives the same box back.
# Seen with bbox-utils 0.1.1: the centre is the left edge plus half the width without its fraction (//), rounded to a
# whole number. A box from (10, 20) to (31, 51) has its centre at (20, 35) instead of (20.5, 35.5), and comes back as
# (9.5, 19.5) to (30.5, 50.5). Width and height are right. Nothing says that whole pixels are meant.
# Why it matters: all boxes with an odd width or height move half a pixel to the top left, which costs most for small
# objects: the IoU of a box of 3 x 3 with itself after to_yolo() and from_yolo() is 0.53.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    bbox-utils==0.1.1 numpy==2.4.6 pyquaternion==0.9.9
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from bbox_utils import BoundingBox

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("bbox-utils", "numpy")))
for (left, top, right, bottom), size, seen in (
    ((10, 20, 31, 51), (200, 100), (20, 35)),
    ((5, 5, 8, 8), (16, 16), (6, 6)),
    ((10, 20, 30, 50), (200, 100), (20, 35)),  # even: right
):
    box = BoundingBox.from_xyxy(np.array([left, top]), np.array([right, bottom]))
    x, y, width, height = box.to_yolo(np.array(size))
    back = BoundingBox.from_yolo(np.array([x, y]), width, height, np.array(size)).points
    corners = [*back.min(axis=0).tolist(), *back.max(axis=0).tolist()]
    centre = (float(x * size[1]), float(y * size[0]))
    middle = ((left + right) / 2, (top + bottom) / 2)
    wide = max(min(right, corners[2]) - max(left, corners[0]), 0)
    high = max(min(bottom, corners[3]) - max(top, corners[1]), 0)
    area = (right - left) * (bottom - top)
    iou = wide * high / (2 * area - wide * high)
    print(f"{(left, top, right, bottom)}: centre {centre}, should be {middle}; comes back as {corners}, IoU {iou:.2f}")
    assert np.allclose((width * size[1], height * size[0]), (right - left, bottom - top))
    assert np.allclose(centre, seen), "the behaviour has changed"
    assert np.allclose(np.subtract(middle, seen), 0.5 * np.array([(right - left) % 2, (bottom - top) % 2]))
PYTHON
