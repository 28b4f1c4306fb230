#!/bin/bash
# dataflow-cv joins the parts of a COCO object into one outline, which covers what lies between them.
#
# Expected: an object that is seen in two parts (a car behind a post) has two polygons in "segmentation". Filtering the
# file by class keeps them: only class numbers change.
# Seen with dataflow-cv 3.0.0: the reader strings the points of all polygons of an object together into one polygon.
# An object of two squares of 20 by 20 pixels, 800 pixels in all, becomes one of 1430 that covers a strip from one
# square to the other, and lacks a third of the squares. Nothing is said about it, and "success" is True. Objects of one
# part stay as they are.
# Why it matters: objects that are partly hidden get masks on what hides them, and lose parts of their own.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    dataflow-cv==3.0.0 numpy==2.4.6 opencv-python==5.0.0.93 click==8.4.0 pycocotools==2.0.11
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

import numpy
from dataflow.analyse import FilterAnalyser
from pycocotools import mask

folder = pathlib.Path(sys.argv[1]) / "data"
folder.mkdir()


def square(left: int, top: int) -> list[int]:
    """The outline of a square of 20 by 20 pixels."""
    return [left, top, left + 20, top, left + 20, top + 20, left, top + 20]


def region(outlines: list) -> numpy.ndarray:
    """The pixels of an object, as pycocotools draws them."""
    parts = mask.frPyObjects([list(map(float, outline)) for outline in outlines], 100, 200)
    return mask.decode(mask.merge(parts)).astype(bool)


outlines = {1: [square(10, 10)], 2: [square(10, 10), square(130, 60)]}
dataset = {
    "images": [{"id": 1, "file_name": "photo.jpg", "width": 200, "height": 100}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": number, "image_id": 1, "category_id": 2, "segmentation": parts, "iscrowd": 0, "area": 400 * number,
         "bbox": [10, 10, 20, 20] if number == 1 else [10, 10, 140, 70]}
        for number, parts in outlines.items()
    ],
}
assert [int(region(parts).sum()) for parts in outlines.values()] == [400, 800]  # the input is right
(folder / "dogs_and_cats.json").write_text(json.dumps(dataset))
(folder / "classes.txt").write_text("cat\ndog\n")
(folder / "wanted.txt").write_text("dog\n")
silence = io.StringIO()
with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
    result = FilterAnalyser().analyse(
        folder / "dogs_and_cats.json", folder / "classes.txt", folder / "wanted.txt", folder / "dogs"
    )
assert result.success and not result.errors and not result.warnings
found = json.loads((folder / "dogs/dogs_and_cats.json").read_text())["annotations"]
print(f"dataflow-cv {importlib.metadata.version('dataflow-cv')}")
for (number, parts), each in zip(outlines.items(), found):
    before, after = region(parts), region(each["segmentation"])
    print(
        f"object of {len(parts)} parts: {int(before.sum())} pixels; filtered, of {len(each['segmentation'])} parts:"
        f" {int(after.sum())} pixels, {int((before & after).sum())} of them in the object"
    )
    assert len(each["segmentation"]) == 1
    assert (before == after).all() == (number == 1), "the behaviour has changed"
    joined = [value for part in parts for value in part]
    assert each["segmentation"][0] == joined, "the behaviour has changed"
PYTHON
