#!/bin/bash
# label-convert takes the box of a labelme polygon from two corners of a turned rectangle: a diamond gets a height of 0.
#
# Expected: "bbox" of COCO is the upright box around the polygon, [left, top, width, height].
# Seen with label-convert 0.3.0: labelme_to_coco takes the smallest rectangle around the polygon, at whatever angle,
# and the box goes from its left upper to its right lower corner. For a diamond from 10 to 90 in both directions these
# are its left and right points, and the box is 80 x 0; for a slanted bar it is 60 x 80 instead of 80 x 80. An upright
# polygon is right. Nothing is said.
# Why it matters: objects that lie aslant are lost for training (a box without area), or cut off on both sides, and no
# detection can match a box of height 0 in an evaluation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    label_convert==0.3.0 numpy==2.4.6 opencv-python==5.0.0.93 tqdm==4.67.1 PyYAML==6.0.3
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

import cv2
import numpy as np
from label_convert.labelme_to_coco import LabelmeToCOCO

folder = pathlib.Path(sys.argv[1])
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("label_convert", "opencv-python", "numpy")))
for name, polygon, seen in (
    ("diamond", [[50, 10], [90, 50], [50, 90], [10, 50]], [10, 50, 80, 0]),
    ("slanted bar", [[10, 20], [20, 10], [90, 80], [80, 90]], [20, 10, 60, 80]),
    ("upright bar", [[10, 20], [90, 20], [90, 60], [10, 60]], [10, 20, 80, 40]),
):
    data, written = folder / name / "data", folder / name / "coco"
    data.mkdir(parents=True)
    cv2.imwrite(str(data / "a.png"), np.zeros((100, 100, 3), dtype=np.uint8))
    shape = {"label": "cat", "points": polygon, "shape_type": "polygon", "group_id": None, "flags": {}}
    content = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": "a.png", "imageData": None}
    (data / "a.json").write_text(json.dumps({**content, "imageHeight": 100, "imageWidth": 100}))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        LabelmeToCOCO(data, written, val_ratio=0)()
    found = json.loads((written / "annotations" / "instances_train2017.json").read_text())["annotations"][0]["bbox"]
    (left, top), (right, bottom) = np.min(polygon, axis=0).tolist(), np.max(polygon, axis=0).tolist()
    upright = [left, top, right - left, bottom - top]
    print(f"{name} {polygon}: box {found}, should be {upright}")
    assert found == seen and (found == upright) == (name == "upright bar"), "the behaviour has changed"
PYTHON
