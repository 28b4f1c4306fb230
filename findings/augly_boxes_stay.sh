#!/bin/bash
# AugLy flips, crops and pads pictures, and leaves boxes in the format pascal_voc_norm where they were.
#
# Expected: the documentation lists the four formats pascal_voc, pascal_voc_norm, coco and yolo, and says that the list
# of boxes "will be modified in place such that each bounding box is transformed".
# Seen with augly 1.0.0: no list is modified in any format; the new boxes are only in the metadata, under dst_bboxes. In
# pascal_voc_norm they are not there either: dst_bboxes is src_bboxes, for hflip(), crop(), pad() and all others.
# Why it matters: pascal_voc_norm is the format that needs no size of picture, and every box then lies on another part
# of it: after a mirror image, a box on the left stays on the left.
# Without it: bbox_format="yolo" or "coco", and dst_bboxes of the last entry of the metadata.
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

WIDTH, HEIGHT = 100, 80
box = (0.1, 0.25, 0.3, 0.5)
functions = {
    "hflip": (imaugs.hflip, {}, (0.7, 0.25, 0.9, 0.5)),
    "crop": (imaugs.crop, {"x1": 0.1, "y1": 0.0, "x2": 0.6, "y2": 1.0}, (0.0, 0.25, 0.4, 0.5)),
    "pad": (imaugs.pad, {"w_factor": 0.5, "h_factor": 0.0}, (0.3, 0.25, 0.4, 0.5)),
}


def as_format(left: float, upper: float, right: float, lower: float, name: str, size: tuple[int, int]) -> tuple:
    """A box whose corners are shares of the picture, in another format."""
    width, height = size
    pixels = (left * width, upper * height, right * width, lower * height)
    return {
        "pascal_voc_norm": (left, upper, right, lower),
        "pascal_voc": pixels,
        "coco": (*pixels[:2], pixels[2] - pixels[0], pixels[3] - pixels[1]),
        "yolo": ((left + right) / 2, (upper + lower) / 2, right - left, lower - upper),
    }[name]


print(f"augly {importlib.metadata.version('augly')}")
for name, (function, options, moved) in functions.items():
    for bbox_format in ("pascal_voc", "coco", "yolo", "pascal_voc_norm"):
        metadata, given = [], as_format(*box, bbox_format, (WIDTH, HEIGHT))
        boxes = [given]
        picture = Image.new("RGB", (WIDTH, HEIGHT))
        result = function(picture, metadata=metadata, bboxes=boxes, bbox_format=bbox_format, **options)
        right, seen = as_format(*moved, bbox_format, result.size), metadata[0]["dst_bboxes"][0]
        shown = [tuple(round(number, 2) for number in numbers) for numbers in (given, right, seen)]
        print(f"{name}, {bbox_format}: given {shown[0]}, right {shown[1]}, dst_bboxes {shown[2]}, list {boxes}")
        assert boxes == [given], "the behaviour has changed"
        expected = given if bbox_format == "pascal_voc_norm" else right
        assert np.allclose(seen, expected) and not np.allclose(given, right), "the behaviour has changed"
PYTHON
