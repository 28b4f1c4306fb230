#!/bin/bash
# imantics keeps the photos, classes and objects of all Datasets of a program in one place: one Dataset holds the other.
#
# Expected: Dataset.from_coco() of train.json and of val.json gives two data sets; the description of each that coco()
# makes is that of its own file.
# Seen with imantics 0.1.12: images, categories and annotations are dictionaries of the class, not of the object. The
# data set that is read second holds the objects of the first, the photo 1 of the first is replaced by the photo 1 of
# the second in both, and a training object lies in a validation photo. Classes are looked up by name in the same place:
# the number 1 stands for dog in one file and cat in the other, and is both afterwards.
# Why it matters: reading two parts to filter, convert or join them moves objects to photos that do not show them, and
# training data into the validation set. In a notebook it is enough to read a file again.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    imantics==0.1.12 numpy==2.4.6 opencv-python==5.0.0.93 lxml==6.1.3 xmljson==0.2.1
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

from imantics import Dataset


def coco(photo: str, label: str, left: int) -> dict:
    """A COCO description of one photo with one object."""
    outline = [left, 20, left + 40, 20, left + 40, 60, left, 60]
    return {
        "images": [{"id": 1, "file_name": photo, "width": 200, "height": 100}],
        "categories": [{"id": 1, "name": label}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [outline], "bbox": [left, 20, 40, 40],
             "area": 1600, "iscrowd": 0}
        ],
    }


def described(dataset: Dataset) -> tuple[list, list, list]:
    """Photos, classes and objects of a data set."""
    content = dataset.coco()
    return (
        [(each["id"], each["file_name"]) for each in content["images"]],
        [(each["id"], each["name"]) for each in content["categories"]],
        [(each["image_id"], each["category_id"], list(each["bbox"])) for each in content["annotations"]],
    )


print(f"imantics {importlib.metadata.version('imantics')}")
train = Dataset.from_coco(coco("train.jpg", "dog", 10), "train")
before = described(train)
print("train, alone:", before)
assert before == ([(1, "train.jpg")], [(1, "dog")], [(1, 1, [10, 20, 40, 40])])  # right so far
val = Dataset.from_coco(coco("val.jpg", "cat", 100), "val")
print("val:", described(val))
print("train, after val has been read:", described(train))
mixed = ([(1, "val.jpg")], [(1, "dog"), (1, "cat")], [(1, 1, [10, 20, 40, 40]), (1, 1, [100, 20, 40, 40])])
assert described(val) == described(train) == mixed, "the behaviour has changed"
empty = Dataset("empty")
print("a new data set:", described(empty))
assert described(empty) == mixed and empty.images is train.images, "the behaviour has changed"
PYTHON
