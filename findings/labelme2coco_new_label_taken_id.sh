#!/bin/bash
# labelme2coco gives a label that is not in the list of classes handed to it the number of the first class of that list.
#
# Expected: with coco_category_list of train.json, {0: car, 1: bus}, a label dog that is not there gets a number that
# is free, such as 2, and the others keep theirs.
# Seen with labelme2coco 0.2.6 (sahi 0.12.8): new labels are numbered from 0 (or category_id_start) again. The dog
# gets 0, as the first car has; from then on car is not found any more, and gets 1, the number of the bus, and the bus
# 2. The file holds five entries for the classes 0, 1 and 2, of which pycocotools 2.0.11 keeps the last of each.
# Nothing is raised or warned of. Without the dog all is right.
# Why it matters: the documentation makes val.json fit train.json this way. One label that only the validation's
# photos have, or that is misspelt there, makes cars of dogs, buses of cars, and a new class of buses.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    labelme2coco==0.2.6 sahi==0.12.8 numpy==2.4.6 opencv-python==5.0.0.93 pycocotools==2.0.11
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

from labelme2coco import get_coco_from_labelme_folder, save_json
from pycocotools.coco import COCO

folder = pathlib.Path(sys.argv[1])


def write(part: str, labels: list[str]) -> str:
    """A folder with a labelme file for each label, in this order."""
    (folder / part).mkdir()
    for place, label in enumerate(labels):
        shape = {"label": label, "points": [[10, 10], [30, 30]], "shape_type": "rectangle"}
        content = {"version": "5.5.0", "shapes": [shape], "imagePath": f"{place}.jpg", "imageData": None}
        (folder / part / f"{place}.json").write_text(json.dumps({**content, "imageHeight": 100, "imageWidth": 100}))
    return str(folder / part)


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("labelme2coco", "sahi", "pycocotools")))
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    train = get_coco_from_labelme_folder(write("train", ["car", "bus"]))
numbers = {each["name"]: each["id"] for each in train.json_categories}
print(f"classes of train: {numbers}")
for part, labels, seen in (
    ("val", ["car", "dog", "car", "bus"], [0, 0, 1, 2]),
    ("other", ["car", "bus", "car", "bus"], [0, 1, 0, 1]),
):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        val = get_coco_from_labelme_folder(write(part, labels), coco_category_list=train.json_categories)
        save_json(val.json, str(folder / f"{part}.json"))
        coco = COCO(folder / f"{part}.json")
    found = [each["category_id"] for each in coco.dataset["annotations"]]
    classes = [(each["id"], each["name"]) for each in coco.dataset["categories"]]
    names = {number: each["name"] for number, each in coco.cats.items()}
    print(f"labels {labels}: objects of classes {found}; classes written {classes}, kept by pycocotools {names}")
    assert found == seen, "the behaviour has changed"
    right = all(numbers[label] == number for label, number in zip(labels, found) if label in numbers)
    assert right == ("dog" not in labels) and (len(classes) == len(names)) == right, "the behaviour has changed"
PYTHON
