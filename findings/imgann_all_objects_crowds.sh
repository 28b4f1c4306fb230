#!/bin/bash
# imgann writes iscrowd as the word "0" into COCO files, which pycocotools takes for a crowd.
#
# Expected: iscrowd is the number 0 in COCO's format, so that a perfect detection has an AP of 1.
# Seen with imgann 0.8.1: csv2coco() and voc2coco() write "iscrowd": "0", "ignore": "0" and "area": "600". A word that
# is not empty counts as true in Python, so that pycocotools leaves every object out of the evaluation: AP and AR are
# -1, and getAnnIds(iscrowd=False) finds nothing. Nothing is raised or warned of; the file is valid JSON and reads
# well.
# Why it matters: -1 means that there is nothing to find. Whoever trains with such a file with a loader that leaves out
# crowds, as many do, trains without any object.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    numpy==2.4.6 pandas==3.1.1 opencv-python-headless==5.0.0.93 matplotlib==3.11.2 scikit-learn==1.9.1 \
    pycocotools==2.0.11
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    --no-deps imgann==0.8.1
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import copy
import importlib.metadata
import io
import json
import pathlib
import sys

import cv2
import numpy as np
from imgann import Convertor
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

folder = pathlib.Path(sys.argv[1])
(folder / "photos").mkdir()
cv2.imwrite(str(folder / "photos" / "1.jpg"), np.zeros((100, 120, 3), np.uint8))
(folder / "boxes.csv").write_text(
    "filename,width,height,class,xmin,ymin,xmax,ymax\n1.jpg,120,100,cat,10,20,40,40\n1.jpg,120,100,dog,50,20,80,70\n"
)


def evaluate(dataset: dict) -> tuple[float, int]:
    """AP of a perfect detection, and the number of objects that are no crowd."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        keys = ("image_id", "category_id", "bbox")
        found = truth.loadRes([{key: it[key] for key in keys} | {"score": 0.9} for it in dataset["annotations"]])
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), len(truth.getAnnIds(iscrowd=False))


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("imgann", "pycocotools")))
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    Convertor.csv2coco(str(folder / "photos"), str(folder / "boxes.csv"), str(folder / "coco.json"), False)
dataset = json.loads((folder / "coco.json").read_text())
print(f"imgann writes {dataset['annotations'][0]}")
assert [it["bbox"] for it in dataset["annotations"]] == [[10, 20, 30, 20], [50, 20, 30, 50]]
seen = evaluate(dataset)
for thing in dataset["annotations"]:
    thing.update({key: int(thing[key]) for key in ("area", "iscrowd", "ignore")})
right = evaluate(dataset)
print(f"perfect detection: AP {seen[0]}, {seen[1]} objects; with numbers instead of words: AP {right[0]}, {right[1]}")
assert right[0] > 0.999 and right[1] == 2
assert seen == (-1, 0), "the behaviour has changed"
PYTHON
