#!/bin/bash
# boxlab's merge() turns the cats of one data set into dogs if the dogs of the other have the same class number.
#
# Expected: the merged data set has the classes of both, and each object the class that it had: merge() is documented
# as "handles category conflicts", by name, and gives photos and objects new numbers so that they do not collide.
# Seen with boxlab 0.1.4: of a COCO file {1: cat} and one {1: dog} comes a data set with the single class dog, in
# which both objects are dogs; the + operator does the same. The file written of it holds two dogs, one of them on the
# photo of the cat. Nothing is raised, and resolve_conflicts="error" does not help. With the dog as number 2 all is
# right.
# Why it matters: nearly every COCO file counts its classes from 1 (or 0), so that nearly all merges of different
# classes collide; the detector learns cats as dogs.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    numpy==1.26.4 matplotlib==3.10.8 pillow==12.3.0 pyyaml==6.0.3
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps boxlab==0.1.4
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import sys

from boxlab.dataset.plugins.coco import COCOExporter, COCOLoader

folder = sys.argv[1]


def load(photo: str, name: str, number: int):
    """A COCO file of one photo with one object."""
    dataset = {
        "images": [{"id": 1, "file_name": photo, "width": 100, "height": 100}],
        "categories": [{"id": number, "name": name}],
        "annotations": [
            {
                **{"id": 1, "image_id": 1, "category_id": number, "iscrowd": 0, "area": 400},
                **{"bbox": [10, 10, 20, 20], "segmentation": []},
            }
        ],
    }
    with open(f"{folder}/{name}.json", "w") as file:
        json.dump(dataset, file)
    return COCOLoader().load(f"{folder}/{name}.json")


def content(dataset) -> dict[str, str]:
    """The class of the object on each photo, in the COCO file written of a data set."""
    COCOExporter().export(dataset, f"{folder}/merged")
    with open(f"{folder}/merged/annotations_train.json") as file:
        written = json.load(file)
    names = {each["id"]: each["name"] for each in written["categories"]}
    photos = {each["id"]: each["file_name"] for each in written["images"]}
    return {photos[each["image_id"]]: names[each["category_id"]] for each in written["annotations"]}


print(f"boxlab {importlib.metadata.version('boxlab')}")
cats = load("a.jpg", "cat", 1)
for number, seen in ((1, {"a.jpg": "dog", "b.jpg": "dog"}), (2, {"a.jpg": "cat", "b.jpg": "dog"})):
    dogs = load("b.jpg", "dog", number)
    merged = {
        "merge()": cats.merge(dogs),
        'merge(resolve_conflicts="error")': cats.merge(dogs, resolve_conflicts="error"),
        "+": cats + dogs,
    }
    print(f"cats {cats.categories} in a.jpg, dogs {dogs.categories} in b.jpg:")
    for way, dataset in merged.items():
        found = content(dataset)
        print(f"    {way}: classes {dataset.categories}, objects {found}")
        assert found == seen, "the behaviour has changed"
PYTHON
