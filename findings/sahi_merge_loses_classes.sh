#!/usr/bin/env bash
# sahi's merge() and merge_from_file() drop all objects of classes that only the second of two COCO files has.
#
# Expected: the merged file has the classes and objects of both, as with merge_from_list() and Coco.merge().
# Seen with sahi 0.12.8: a file with a cat and one with a cat and a dog, whose classes have other numbers, become one
# with two cats. The class dog and the dog are gone; its photo stays, with its cat only. In the other order all three
# objects are there. Nothing is raised, printed or logged, and the documentation of merge() only says that it combines
# two data sets.
# Why it matters: the lost objects become background of photos that are still there, so that a detector learns to miss
# what the second data set was added for.
# Without it: merge_from_list([first, second]), which takes the classes of both (below).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    sahi==0.12.8 numpy==2.4.6 opencv-python==5.0.0.93
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import sys

from sahi.utils.coco import merge, merge_from_file, merge_from_list

folder = sys.argv[1]


def coco(photo: str, classes: dict[str, int]) -> dict:
    """A data set of one photo with one object of each class."""
    return {
        "images": [{"id": 1, "file_name": photo, "width": 100, "height": 100}],
        "categories": [{"id": number, "name": name, "supercategory": name} for name, number in classes.items()],
        "annotations": [
            {
                **{"id": place, "image_id": 1, "category_id": number, "iscrowd": 0, "area": 400},
                **{"bbox": [20 * place, 10, 20, 20], "segmentation": []},
            }
            for place, number in enumerate(classes.values(), 1)
        ],
    }


def content(dataset: dict) -> tuple[list[str], dict[str, list[str]]]:
    """The classes, and those of the objects of each photo."""
    names = {each["id"]: each["name"] for each in dataset["categories"]}
    photos = {each["id"]: each["file_name"] for each in dataset["images"]}
    objects = {photo: [] for photo in photos.values()}
    for each in dataset["annotations"]:
        objects[photos[each["image_id"]]].append(names[each["category_id"]])
    return sorted(names.values()), objects


first, second = coco("a.jpg", {"cat": 1}), coco("b.jpg", {"dog": 1, "cat": 2})
for name, dataset in (("first", first), ("second", second)):
    with open(f"{folder}/{name}.json", "w") as file:
        json.dump(dataset, file)
said = io.StringIO()
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    merge_from_file(f"{folder}/first.json", f"{folder}/second.json", f"{folder}/merged.json")
    seen = content(merge(first, second))
with open(f"{folder}/merged.json") as file:
    from_file = content(json.load(file))
turned = content(merge(second, first))
right = content(merge_from_list([first, second], verbose=0))

print(f"sahi {importlib.metadata.version('sahi')}, first and second: {content(first)}, {content(second)}")
print(f"merge(first, second): {seen}; merge_from_file(): {from_file}; printed meanwhile: {said.getvalue()!r}")
print(f"merge(second, first): {turned}")
print(f"merge_from_list([first, second]): {right}")
assert seen == from_file == (["cat"], {"a.jpg": ["cat"], "b.jpg": ["cat"]}), "the behaviour has changed"
assert said.getvalue() == "", "the behaviour has changed"
assert turned == (["cat", "dog"], {"b.jpg": ["dog", "cat"], "a.jpg": ["cat"]}), "the behaviour has changed"
assert right == (["cat", "dog"], {"a.jpg": ["cat"], "b.jpg": ["dog", "cat"]}), "merge_from_list() has changed"
PYTHON
