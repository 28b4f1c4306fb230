#!/usr/bin/env bash
# pycocotools gives masks another AP for small objects if the results hold boxes beside the masks.
#
# Expected: an evaluation with iouType "segm" looks at masks; that a result has a "bbox" too changes nothing.
# Seen with pycocotools 2.0.11 and faster-coco-eval 1.8.0: with a box, its area is taken for that of the mask. A false
# mask of 180 pixels in a box of 3720 is then no small one: AP for small objects is 1.0 instead of 0.5. The AP over all
# sizes stays.
# Why it matters: detectors give boxes with their masks, and who writes both gets other APs for small, medium and large
# objects than the same network has with masks alone.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pycocotools==2.0.11 faster-coco-eval==1.8.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import contextlib
import copy
import importlib.metadata
import io

import faster_coco_eval
import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

PAIRS = {"pycocotools": (COCO, COCOeval), "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)}


def stripe(left: int, top: int) -> dict:
    """A thin slanted object, 60 high and 3 wide: few pixels in a large box."""
    pixels = np.zeros((200, 200), np.uint8)
    for i in range(60):
        pixels[top + i, left + i : left + i + 3] = 1
    runs = mask.encode(np.asfortranarray(pixels))
    return {"size": runs["size"], "counts": runs["counts"].decode()}


def precisions(package: str, boxes: bool) -> tuple[float, float]:
    """AP over all sizes, and AP of small objects, for a right answer and a false one."""
    dataset = {
        "images": [{"id": 1, "width": 200, "height": 200}],
        "categories": [{"id": 1, "name": "rope"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 180, "bbox": [20, 20, 62, 60]}
            | {"segmentation": stripe(20, 20)}
        ],
    }
    found = [
        {"image_id": 1, "category_id": 1, "score": score, "segmentation": stripe(left, top)}
        | ({"bbox": [left, top, 62, 60]} if boxes else {})
        for score, left, top in ((0.9, 20, 20), (0.95, 120, 80))
    ]
    coco, evaluation = PAIRS[package]
    with contextlib.redirect_stdout(io.StringIO()):
        objects = coco()
        objects.dataset = copy.deepcopy(dataset)
        objects.createIndex()
        result = evaluation(objects, objects.loadRes(found), "segm")
        result.evaluate()
        result.accumulate()
        result.summarize()
    return round(float(result.stats[0]), 3), round(float(result.stats[3]), 3)


for package in PAIRS:
    seen = {boxes: precisions(package, boxes) for boxes in (False, True)}
    version = importlib.metadata.version(package)
    print(f"{package} {version}, AP of masks (all, small) by whether the results have boxes too: {seen}")
    assert seen == {False: (0.5, 0.5), True: (0.5, 1.0)}, "the behaviour has changed"
PYTHON
