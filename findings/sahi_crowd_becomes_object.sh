#!/usr/bin/env bash
# sahi makes ordinary objects of the crowds of a COCO file, in what it slices, splits, filters, merges and converts.
#
# Expected: what has iscrowd 1 keeps it, as CocoAnnotation has such a parameter and property.
# Seen with sahi 0.12.8: Coco.from_coco_dict_or_path() reads iscrowd 1 as 0, and Coco.json writes 0 even for
# CocoAnnotation(..., iscrowd=1). So slice_coco() with one slice of the size of the photo, which ought to change
# nothing, makes two objects of a person and a crowd of people. With the person found, pycocotools 2.0.11 gives an AP
# of 1 for the original and of 0.505 for the copy. sahi warns that the run lengths of the crowd are skipped, and not
# that it counts as an object from now on.
# Why it matters: COCO's own files have crowds. Training then learns a box around a crowd as one person, YOLO files get
# a line for it, and detectors are scored lower on the sliced data set without being worse.
# Without it: set iscrowd again, as below, where no slices are made, or take crowds out before.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    sahi==0.12.8 pycocotools==2.0.11 numpy==2.4.6 opencv-python==5.0.0.93
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import sys

import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sahi.slicing import slice_coco
from sahi.utils.coco import Coco, CocoAnnotation, CocoCategory, CocoImage

folder = sys.argv[1]
SIDE = 100
Image.new("RGB", (SIDE, SIDE)).save(f"{folder}/photo.png")
crowd = np.zeros((SIDE, SIDE), np.uint8)
crowd[60:90, 10:90] = 1
runs = np.flatnonzero(np.diff(crowd.ravel(order="F"), prepend=0, append=0))
counts = np.diff(runs, prepend=0, append=SIDE * SIDE).tolist()
original = {
    "images": [{"id": 1, "file_name": "photo.png", "width": SIDE, "height": SIDE}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [
        {
            **{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 400, "bbox": [10, 10, 20, 20]},
            "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
        },
        {
            **{"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 1, "area": 2400, "bbox": [10, 60, 80, 30]},
            "segmentation": {"size": [SIDE, SIDE], "counts": counts},
        },
    ],
}
with open(f"{folder}/original.json", "w") as file:
    json.dump(original, file)


def precision(dataset: dict) -> float:
    """AP if the person is found."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        found = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}]
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return round(float(evaluation.eval["precision"][:, :, 0, 0, -1].mean()), 3)


with contextlib.redirect_stderr(io.StringIO()):  # progress bars
    sliced, _ = slice_coco(f"{folder}/original.json", folder, "", slice_height=SIDE, slice_width=SIDE)
    copy = Coco.from_coco_dict_or_path(f"{folder}/original.json")
read = [each.iscrowd for each in copy.images[0].annotations]

made = Coco()
made.add_category(CocoCategory(id=1, name="person"))
photo = CocoImage(file_name="photo.png", height=SIDE, width=SIDE)
photo.add_annotation(CocoAnnotation(bbox=[10, 60, 80, 30], category_id=1, category_name="person", iscrowd=1))
made.add_image(photo)
given = (photo.annotations[0].iscrowd, made.json["annotations"][0]["iscrowd"])

restored = copy.json
for each, old in zip(restored["annotations"], original["annotations"], strict=True):
    assert each["bbox"] == old["bbox"]
    each["iscrowd"] = old["iscrowd"]

print(f"sahi {importlib.metadata.version('sahi')}, pycocotools {importlib.metadata.version('pycocotools')}")
print(f"iscrowd of the person and the crowd, which are 0 and 1, when read: {read}")
print(f"iscrowd and box after slice_coco(): {[(each['iscrowd'], each['bbox']) for each in sliced['annotations']]}")
print(f"CocoAnnotation(..., iscrowd=1) has iscrowd {given[0]}, and is written with {given[1]}")
scores = [precision(dataset) for dataset in (original, sliced, restored)]
print(f"AP of the original, of the sliced one, and of the copy with iscrowd set again: {scores}")
assert read == [0, 0] and given == (1, 0), "the behaviour has changed"
assert [each["iscrowd"] for each in sliced["annotations"]] == [0, 0], "the behaviour has changed"
assert [each["bbox"] for each in sliced["annotations"]] == [[10, 10, 20, 20], [10, 60, 80, 30]], (
    "the behaviour has changed"
)
assert scores == [1, 0.505, 1], "the behaviour has changed"
PYTHON
