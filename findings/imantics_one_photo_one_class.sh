#!/bin/bash
# imantics keeps one photo of all that are added to a Dataset, gives it all objects, and all classes the number 0.
#
# Expected: a Dataset to which two photos are added (as paths, or as Image objects) writes two images and the objects of
# each into its COCO description, with one number for each class. Image.coco() of each photo numbers its classes.
# Seen with imantics 0.1.12: images and categories made without id have the id 0, and only annotations get numbers of
# their own when they are added. The second photo takes the place of the first; the objects of the first are now objects
# of the second; cat and dog both have the id 0, so that a reader takes all objects for the last class. The readers
# of paths and folders never give ids. With ids by hand all is right.
# Why it matters: a valid COCO file with hundreds of objects of one class on a single photo, where everything had been
# added as the documentation says.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    imantics==0.1.12 numpy==2.4.6 opencv-python==5.0.0.93 lxml==6.1.3 xmljson==0.2.1 pycocotools==2.0.11
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import os
import sys

import cv2
import numpy
from imantics import BBox, Category, Dataset, Image
from pycocotools.coco import COCO

os.chdir(sys.argv[1])
for name in ("a.png", "b.png"):
    cv2.imwrite(name, numpy.zeros((100, 200, 3), numpy.uint8))
numbers = {"cat": 1, "dog": 2}
boxes = {"a.png": [("cat", (10, 20, 50, 60))], "b.png": [("dog", (100, 30, 140, 90)), ("cat", (70, 10, 90, 30))]}


def described(numbered: bool) -> dict:
    """The COCO description of a Dataset with both photos."""
    Dataset.images, Dataset.categories, Dataset.annotations = {}, {}, {}  # else it keeps those of the call before
    classes = {name: Category(name, id=number) if numbered else Category(name) for name, number in numbers.items()}
    dataset = Dataset("photos")
    for place, (name, objects) in enumerate(boxes.items(), 1):
        image = Image.from_path(name)
        if numbered:
            image.id = place
        for label, box in objects:
            image.add(BBox(box), category=classes[label])
        dataset.add(image)
    return dataset.coco()


def read(description: dict) -> list[tuple[str, str, list[int]]]:
    """Photo, class and box of each object, as pycocotools reads them."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = description
        coco.createIndex()
    return [
        (coco.imgs[each["image_id"]]["file_name"], coco.cats[each["category_id"]]["name"], list(each["bbox"]))
        for each in coco.anns.values()
    ]


right = [("a.png", "cat", [10, 20, 40, 40]), ("b.png", "dog", [100, 30, 40, 60]), ("b.png", "cat", [70, 10, 20, 20])]
print(f"imantics {importlib.metadata.version('imantics')}")
assert sorted(read(described(True))) == sorted(right), "the behaviour has changed"  # with ids by hand
found = described(False)
print("images", [(each["id"], each["file_name"]) for each in found["images"]])
print("classes", [(each["id"], each["name"]) for each in found["categories"]])
for name, label, box in read(found):
    print(f"object {box}: {label} in {name}")
print("should be", right)
assert [each["id"] for each in found["images"]] == [0], "the behaviour has changed"
assert [each["id"] for each in found["categories"]] == [0, 0], "the behaviour has changed"
assert read(found) == [("b.png", "dog", box) for _, _, box in right], "the behaviour has changed"

Dataset.images, Dataset.categories, Dataset.annotations = {}, {}, {}
paths = Dataset("paths")
for name in boxes:
    paths.add(name)
left = [each["file_name"] for each in paths.coco()["images"]]
print(f"added by path: {list(boxes)}, described: {left}")
assert left == ["b.png"], "the behaviour has changed"
PYTHON
