#!/bin/bash
# AugLy gives an object that crop() has cut away the box that it had before the crop.
#
# Expected: None. The source says so ("we will return it as None"), and a box that is gone cannot be somewhere.
# Seen with augly 1.0.0: the box is found to be gone, and then the entry is skipped, so that dst_bboxes keeps the box of
# the picture before the crop: in yolo format a sound box of the new picture, with the same shares of width and height,
# in coco and pascal_voc one in pixels of the old one. The box of an object that stays is right.
# Why it matters: whoever drops the entries that are None, as told, drops nothing, and trains a detector on boxes
# without objects. Nothing is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    augly==1.0.0 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import importlib.metadata

import augly.image as imaugs
import numpy as np
from PIL import Image

photo = Image.new("RGB", (100, 80))
photo.paste("white", (10, 8, 30, 24))  # top left: cut away
photo.paste("red", (60, 48, 80, 64))  # bottom right: stays
boxes = {  # of both, and that of the second one in the lower right quarter of the photo
    "yolo": [(0.2, 0.2, 0.2, 0.2), (0.7, 0.7, 0.2, 0.2), (0.4, 0.4, 0.4, 0.4)],
    "coco": [(10, 8, 20, 16), (60, 48, 20, 16), (10, 8, 20, 16)],
    "pascal_voc": [(10, 8, 30, 24), (60, 48, 80, 64), (10, 8, 30, 24)],
}
print(f"augly {importlib.metadata.version('augly')}")
for bbox_format, (cut, kept, moved) in boxes.items():
    metadata = []
    result = imaugs.crop(
        photo, x1=0.5, y1=0.5, x2=1.0, y2=1.0, metadata=metadata, bboxes=[cut, kept], bbox_format=bbox_format
    )
    seen = metadata[0]["dst_bboxes"]
    colours = sorted(set(result.get_flattened_data()))
    print(f"{bbox_format}: {result.size}, colours {colours}, {[cut, kept]} became {seen}, right [None, {moved}]")
    assert colours == [(0, 0, 0), (255, 0, 0)], "the behaviour has changed"
    assert seen[0] == cut and np.allclose(seen[1], moved), "the behaviour has changed"
PYTHON
