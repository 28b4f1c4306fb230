#!/bin/bash
# mask2bbox takes the last row and column of an object for the first ones behind it, and cuts them off.
#
# Expected: the box of an object of 4 x 7 pixels holds 28 pixels, the crop of that box is 4 x 7, and objects that touch
# the border of the mask are removed by remove_from_edge(), whichever border it is.
# Seen with mask2bbox 0.0.28: from_mask() notes the last row and column of the object, all other methods use them as if
# they came behind it. Its area is 3 x 6 = 18, get_pixels_from() gives 3 x 6 pixels, an object of one row has an area
# of 0 and an empty crop, and objects at the lower and the right border stay when those at the edge are removed; those
# at the upper and the left border go.
# Why it matters: each crop of a cell lacks a row and a column, small objects lose most of their area and are dropped
# by filters on it, and cells that are cut by two of the four borders stay in the data.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mask2bbox==0.0.28 numpy==2.4.6 scikit-image==0.26.0 matplotlib==3.11.2
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import pathlib
import sys

import numpy as np
from mask2bbox._bboxes import BBoxes
from skimage import io, measure

folder = pathlib.Path(sys.argv[1])
mask = np.zeros((40, 60), np.uint16)
places = {1: np.s_[10:14, 20:27], 2: np.s_[20:21, 20:30], 3: np.s_[0:8, 30:40], 4: np.s_[20:30, 0:5]}
places |= {5: np.s_[32:40, 20:30], 6: np.s_[20:30, 50:60]}  # at the lower and the right border
for number, place in places.items():
    mask[place] = number
io.imsave(folder / "mask.png", mask, check_contrast=False)

names = ("mask2bbox", "scikit-image", "numpy")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
boxes = BBoxes.from_mask(folder / "mask.png")
right = {region.label: int(region.area_bbox) for region in measure.regionprops(mask)}
areas = {int(number): int(area) for number, area in boxes.get("area")}
for number, seen, crop in ((1, 18, (3, 6)), (2, 0, (0, 9))):
    pixels = boxes.get_pixels_from(number, source="mask")
    shape = mask[places[number]].shape
    print(f"object of {shape}: area {areas[number]} instead of {right[number]}, crop {pixels.shape}")
    assert mask[places[number]].size == right[number]
    assert areas[number] == seen and pixels.shape == crop, "the behaviour has changed"
left = boxes.remove_from_edge().identities().tolist()
print(f"remove_from_edge() keeps {left} of {boxes.identities().tolist()}; 3, 4, 5 and 6 touch a border")
assert left == [1, 2, 5, 6], "the behaviour has changed"
PYTHON
