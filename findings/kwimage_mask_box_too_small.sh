#!/bin/bash
# kwimage gives boxes of masks that are a column narrower and a row lower than the object.
#
# Expected: the box of a mask holds all its pixels, as that of pycocotools does; a patch "with non-zero data" has them.
# Seen with kwimage 0.12.0: Mask.box() and get_xywh() take the last column less the first one for the width. An object
# of 7 columns and 4 rows has a box of 6 x 3, a row of pixels one without height, a single pixel one without any size.
# get_patch() cuts that box out, and so loses the last row and column. The mask's own area is right, and larger than
# that of its box. Nothing is raised or warned of.
# Why it matters: boxes made of masks for a detector are too small on two sides, half of small objects is lost.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    kwimage==0.12.0 kwarray==0.7.2 kwutil==0.3.8 ubelt==1.4.3 numpy==2.4.6 scipy==1.17.1 shapely==2.2.0 pillow==13.0.0 \
    scikit-image==0.26.0 networkx==3.6.1 distinctipy==1.3.4 parse==1.22.4 affine==3.0.1 lazy-loader==0.6 \
    opencv-python-headless==5.0.0.93 pycocotools==2.0.11
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import kwimage
import numpy as np
from pycocotools import mask as coco

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("kwimage", "pycocotools", "numpy")))
for place, seen in ((np.s_[10:14, 20:27], (6, 3)), (np.s_[10:11, 20:27], (6, 0)), (np.s_[10:11, 20:21], (0, 0))):
    pixels = np.zeros((40, 60), np.uint8)
    pixels[place] = 1
    height, width = pixels[place].shape
    mask = kwimage.Mask(pixels, "c_mask")
    found = [int(number) for number in mask.get_xywh()]
    box = mask.box()
    right = coco.toBbox(coco.encode(np.asfortranarray(pixels))).tolist()
    patch = mask.get_patch()
    print(f"{int(mask.area)} pixels, {width} x {height}: {found}, pycocotools {right}, patch with {patch.sum()} pixels")
    assert right == [20, 10, width, height] and mask.area == width * height
    assert found == [20, 10, *seen] and (box.width, box.height) == seen, "the behaviour has changed"
    assert patch.sum() == seen[0] * seen[1], "the behaviour has changed"
PYTHON
