#!/bin/bash
# segment-toolkit writes turned boxes into YOLO labels without their angle, so that lying objects get standing boxes.
#
# Expected: bbox_type="rotated", which the documentation calls advanced minimum area rotated boxes, gives a label from
# which the turned box can be drawn, such as the four corners of YOLO's own format for turned boxes.
# Seen with segment-toolkit 1.2.0: it takes centre, width and height of OpenCV's minAreaRect(), drops the angle, and
# writes the rest as an ordinary label: class, centre, width, height. An object of 200 x 100 pixels that is turned by
# 20 degrees gets a box of 100 x 200, since OpenCV counts its angle as -70 degrees. Such a box holds 53 % of the
# object; the ordinary one holds all of it. Nothing is raised or warned of.
# Why it matters: the detector learns boxes that miss the ends of each object and lie across it. Every program that
# reads YOLO labels takes them for upright boxes, and no number in the file says otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    numpy==2.4.6 opencv-python-headless==5.0.0.93 pillow==13.0.0 pandas==3.1.1 matplotlib==3.11.2 typer==0.29.2
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    --no-deps segment-toolkit==1.2.0
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import logging
import pathlib
import sys

import cv2
import numpy as np
from segment_toolkit import MaskToYoloConverter

folder = pathlib.Path(sys.argv[1])
logging.disable(logging.INFO)
size = 640
corners = cv2.boxPoints(((320, 320), (200, 100), 20))
mask = np.zeros((size, size), np.uint8)
cv2.fillPoly(mask, [corners.round().astype(np.int32)], 255)
cv2.imwrite(str(folder / "mask.png"), mask)
cv2.imwrite(str(folder / "photo.png"), np.zeros((size, size, 3), np.uint8))


def box(kind: str) -> tuple[list[int], float]:
    """Width and height in the label of a kind in pixels, and the part of the object that its box holds."""
    MaskToYoloConverter(target_size=(size, size), bbox_type=kind).convert_single(
        str(folder / "photo.png"), str(folder / "mask.png"), str(folder / "label.txt"), class_id=0
    )
    label = [float(number) for number in (folder / "label.txt").read_text().split()]
    assert len(label) == 5, "the behaviour has changed"  # class, centre, width and height; no angle
    x, y, width, height = (round(number * size) for number in label[1:])
    inside = mask[max(y - height // 2, 0) : y + height // 2 + 1, max(x - width // 2, 0) : x + width // 2 + 1]
    return [width, height], np.count_nonzero(inside) / np.count_nonzero(mask)


names = ("segment-toolkit", "opencv-python-headless", "numpy")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
extent = np.ptp(corners, axis=0)
print(f"an object of 200 x 100 that is turned by 20 degrees, {extent[0]:.0f} wide and {extent[1]:.0f} high")
seen = {}
for kind in ("standard", "rotated"):
    seen[kind], part = box(kind)
    print(f"{kind}: width and height {seen[kind]}, holds {part:.0%} of the object")
    assert part > 0.99 if kind == "standard" else 0.5 < part < 0.57, "the behaviour has changed"
assert extent[0] > extent[1] and np.abs(np.subtract(seen["standard"], extent)).max() < 3
assert np.abs(np.subtract(seen["rotated"], (100, 200))).max() < 4, "the behaviour has changed"
PYTHON
