#!/bin/bash
# pylabelme2yolo writes the two corners of a LabelMe rectangle where a YOLO label has centre and size.
#
# Expected: with --output_format polygon a rectangle becomes an outline of four corners, or a box; with bbox a circle
# becomes the box around it.
# Seen with pylabelme2yolo 0.1.2: it takes the points of each shape as they are. LabelMe stores a rectangle as two
# corners, which gives a line of a class and four numbers, and that is a box in YOLO: from (20, 10) to (40, 30) in 100
# x 100 becomes the centre (0.2, 0.1) with a size of 0.4 x 0.3, that is from (0, -5) to (40, 25). A circle is stored as
# its centre and a point on the rim, and becomes a box without height. Nothing is raised or warned of.
# Why it matters: the numbers are between 0 and 1 and the line is valid, so that no check finds it. The further to the
# right and down an object lies, the larger its box.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    numpy==2.4.6 opencv-python-headless==5.0.0.93 pillow==13.0.0 typer==0.29.2 tqdm==4.70.1
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    --no-deps pylabelme2yolo==0.1.2
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

from PIL import Image
from pylabelme2yolo.converter import convert_labelme_to_yolo

folder = pathlib.Path(sys.argv[1]) / "labelme"
folder.mkdir()
Image.new("RGB", (100, 100)).save(folder / "1.jpg")
shapes = {"polygon": [[20, 10], [40, 10], [40, 30], [20, 30]], "rectangle": [[20, 10], [40, 30]]}
shapes["circle"] = [[60, 50], [80, 50]]
content = {
    **{"version": "5.5.0", "flags": {}, "imagePath": "1.jpg", "imageData": None, "imageWidth": 100, "imageHeight": 100},
    "shapes": [
        {"label": kind, "points": points, "shape_type": kind, "group_id": None, "flags": {}}
        for kind, points in shapes.items()
    ],
}
(folder / "1.json").write_text(json.dumps(content))
(folder / "classes.txt").write_text("".join(f"{number} {kind}\n" for number, kind in enumerate(shapes)))

print(f"pylabelme2yolo {importlib.metadata.version('pylabelme2yolo')}")
labels = {}
for form in ("bbox", "polygon"):
    with contextlib.redirect_stderr(io.StringIO()):
        convert_labelme_to_yolo(folder, val_size=0, output_format=form)
    lines = (folder / "data" / "labels" / "train" / "1.txt").read_text().splitlines()
    labels[form] = {kind: [float(n) for n in line.split()[1:]] for kind, line in zip(shapes, lines)}
    for kind, numbers in labels[form].items():
        print(f"{form}: {kind} {shapes[kind]} becomes {numbers}")
right = [0.3, 0.2, 0.2, 0.2]
assert labels["bbox"]["polygon"] == labels["bbox"]["rectangle"] == right
assert labels["polygon"]["polygon"] == [0.2, 0.1, 0.4, 0.1, 0.4, 0.3, 0.2, 0.3]
assert labels["polygon"]["rectangle"] == [0.2, 0.1, 0.4, 0.3] != right, "the behaviour has changed"
assert labels["bbox"]["circle"] == [0.7, 0.5, 0.2, 0] != [0.6, 0.5, 0.4, 0.4], "the behaviour has changed"
PYTHON
