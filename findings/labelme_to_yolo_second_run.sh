#!/bin/bash
# labelme-to-yolo, run again, puts photos of the training set into the validation and test sets as well.
#
# Expected: the data set is split into three parts that share no photo, in the second run too, say when annotations
# were added or mended.
# Seen with labelme-to-yolo 0.2.1: each run splits the photos at random, and copies them beside those that lie there
# already; train.txt, val.txt and test.txt get their lines added at the end. After two runs with 40 photos about 18 of
# them are in two parts or three, after three runs about 26. The lists name photos twice. Nothing is raised or warned
# of.
# Why it matters: a network is measured with photos that it was trained with, and the numbers get better with each run
# of the converter.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    labelme-to-yolo==0.2.1 click==8.5.1 numpy==2.4.6 pydantic==2.14.4 pyyaml==6.0.4 pillow==13.0.0
export PYTHONPATH="$folder"
python3 - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import subprocess
import sys

from PIL import Image

folder = pathlib.Path(sys.argv[1])
source, target = folder / "labelme", folder / "yolo"
source.mkdir()
for place in range(40):
    Image.new("RGB", (200, 100)).save(source / f"{place}.jpg")
    shape = {"label": "cat", "points": [[20, 10], [60, 10], [60, 50], [20, 50]], "shape_type": "polygon"}
    shape |= {"group_id": None, "flags": {}, "description": ""}
    content = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": f"{place}.jpg", "imageData": None}
    (source / f"{place}.json").write_text(json.dumps(content | {"imageWidth": 200, "imageHeight": 100}))

print(f"labelme-to-yolo {importlib.metadata.version('labelme-to-yolo')}")
parts = ("train", "val", "test")
for run in (1, 2, 3):
    command = [sys.executable, "-m", "labelme_to_yolo", "--source-path", source, "--output-path", target]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    photos = {part: {path.name for path in (target / "images" / part).iterdir()} for part in parts}
    lines = {part: len((target / f"{part}.txt").read_text().split()) for part in parts}
    twice = sum(sum(f"{place}.jpg" in names for names in photos.values()) > 1 for place in range(40))
    sizes = {part: len(names) for part, names in photos.items()}
    print(f"run {run}: photos {sizes}, {twice} of 40 in two parts or three; lines in the lists {lines}")
    assert len(set.union(*photos.values())) == 40
    assert sum(lines.values()) >= 40 * run and (twice > 0) == (run > 1), "the behaviour has changed"
PYTHON
