#!/bin/bash
# cocomltools merges two COCO files with the same class into one with two classes of that name if its number is 0.
#
# Expected: classes of the same name become one class, and photos of the same name one photo, as with other numbers.
# Seen with cocomltools 0.1.8: in merge() the number 0 is taken for "there is no such class". The merged file has the
# class cat twice, as 0 and 1; the cats of the first file are of one class, those of the second of the other. A photo
# that both files describe is there twice, too, if its id is 0. Nothing is said. With numbers from 1 all is right.
# Why it matters: many programs number classes and photos from 0. A network learns two classes for cats, and each of
# them counts the cats of the other as mistakes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    cocomltools==0.1.8 numpy==1.26.4 scikit-learn==1.7.2 scipy==1.15.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import sys

from cocomltools.coco_ops import CocoOps

folder = sys.argv[1]
print(f"cocomltools {importlib.metadata.version('cocomltools')}")
for start, seen in (
    (0, ({0: "cat", 1: "cat"}, {0: "a.jpg", 1: "a.jpg"}, [(0, 0), (1, 1)])),
    (1, ({1: "cat"}, {1: "a.jpg"}, [(1, 1), (1, 1)])),
):
    files = []
    for number in range(2):  # two people drew one cat each on the same photo
        dataset = {
            "images": [{"id": start, "file_name": "a.jpg", "width": 100, "height": 100}],
            "categories": [{"id": start, "name": "cat"}],
            "annotations": [
                {
                    **{"id": start, "image_id": start, "category_id": start, "iscrowd": 0, "area": 400},
                    "bbox": [50 * number, 10, 20, 20],
                }
            ],
        }
        files.append(f"{folder}/{start}_{number}.json")
        with open(files[-1], "w") as file:
            json.dump(dataset, file)
    merged = CocoOps.merge(files).get_coco_dict()
    classes = {each["id"]: each["name"] for each in merged["categories"]}
    photos = {each["id"]: each["file_name"] for each in merged["images"]}
    objects = [(each["image_id"], each["category_id"]) for each in merged["annotations"]]
    print(f"numbers from {start}: classes {classes}, photos {photos}, photo and class of the objects {objects}")
    assert (classes, photos, objects) == seen, "the behaviour has changed"
PYTHON
