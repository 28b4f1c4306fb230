#!/usr/bin/env bash
# labelformat writes the first class of a YOLO data set into Pascal VOC masks as background, and so loses it.
#
# Expected: each class has a value of its own, and the background another one, as in VOC; or an error.
# Seen with labelformat 0.1.17: YOLO counts classes from 0, PascalVOCSemanticSegmentationOutput keeps the numbers, and
# its usual background_class_id is 0 as well. The mask of a photo with a cat is that of an empty one, byte for byte, and
# class_id_to_name.json calls 0 "cat": read again by labelformat, both photos are cat from border to border. The second
# class is right. Nothing is raised or logged.
# Why it matters: training runs, and never sees the first class, or sees it everywhere.
# Without it: background_class_id=255, or any number that no class has (below).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    labelformat==0.1.17 numpy==2.4.6 pillow==12.3.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
from labelformat.formats import (
    PascalVOCSemanticSegmentationInput,
    PascalVOCSemanticSegmentationOutput,
    YOLOv8InstanceSegmentationInput,
)
from PIL import Image

folder = Path(sys.argv[1])
NAMES = ("cat", "dog", "empty")  # photos; the first two are classes too
for name in ("images", "labels"):
    (folder / "yolo" / name).mkdir(parents=True)
for number, name in enumerate(NAMES):
    Image.new("RGB", (40, 40)).save(folder / f"yolo/images/{name}.png")
    lines = "" if name == "empty" else f"{number} 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n"  # the middle of the photo
    (folder / f"yolo/labels/{name}.txt").write_text(lines)
(folder / "yolo/data.yaml").write_text("path: .\ntrain: images\nnc: 2\nnames: [cat, dog]\n")


def convert(name: str, **options: int) -> tuple[dict, dict, dict]:
    """Classes of the file, values of each mask, and number of pixels of each class when read again."""
    source = YOLOv8InstanceSegmentationInput(input_file=folder / "yolo/data.yaml", input_split="train")
    PascalVOCSemanticSegmentationOutput(output_folder=folder / name, **options).save(source)
    masks = folder / name / "SegmentationClass"
    values = {each: np.unique(Image.open(masks / f"{each}.png")).tolist() for each in NAMES}
    classes = json.loads((folder / name / "class_id_to_name.json").read_text())
    again = PascalVOCSemanticSegmentationInput.from_dirs(
        folder / "yolo/images", masks, {int(number): label for number, label in classes.items()}
    )
    pixels = {
        Path(each.image.filename).stem: {
            part.category.name: int(part.segmentation.get_binary_mask().sum()) for part in each.objects
        }
        for each in again.get_labels()
    }
    return classes, values, pixels


usual, other = convert("usual"), convert("other", background_class_id=255)
same = (folder / "usual/SegmentationClass/cat.png").read_bytes() == (
    folder / "usual/SegmentationClass/empty.png"
).read_bytes()
print(f"labelformat {importlib.metadata.version('labelformat')}: {usual[0]}, values of each photo's mask: {usual[1]}")
print(f"Masks of the photos with a cat and without anything are the same: {same}; read again: {usual[2]}")
print(f"With background_class_id=255: {other}")
assert usual[0] == {"0": "cat", "1": "dog"}, "the behaviour has changed"
assert usual[1] == {"cat": [0], "dog": [0, 1], "empty": [0]} and same, "the behaviour has changed"
assert usual[2]["cat"] == usual[2]["empty"] == {"cat": 1600}, "the behaviour has changed"
assert set(usual[2]["dog"]) == {"cat", "dog"}, "the behaviour has changed"
assert other[0] == {"0": "cat", "1": "dog", "255": "background"}, "255 does not help any more"
assert other[1] == {"cat": [0, 255], "dog": [1, 255], "empty": [255]}, "255 does not help any more"
PYTHON
