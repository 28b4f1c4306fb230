#!/usr/bin/env bash
# pycocotools counts a found object as a miss and its detection as false if the annotation has the id 0.
#
# Expected: an id is a name: the same boxes give the same AP, whatever number the first annotation has. Or an error.
# Seen with pycocotools 2.0.11: of two objects that are both found the AP is 1.0 with the ids 1 and 2, and 0.252 with 0
# and 1. The evaluation writes the id where 0 means "not matched", and says nothing. faster-coco-eval 1.8.0 gives the
# same number, but warns.
# Why it matters: annotations of one's own are often numbered from 0; one of few objects is then lost from every AP.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pycocotools==2.0.11 faster-coco-eval==1.8.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import contextlib
import importlib.metadata
import io
import warnings

import faster_coco_eval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOXES = [[10.0, 10.0, 40.0, 40.0], [100.0, 100.0, 50.0, 50.0]]
PAIRS = {"pycocotools": (COCO, COCOeval), "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)}


def precision(package: str, first: int) -> tuple[float, int]:
    """The AP of detections that are the objects themselves, numbered from first, and how many warnings came."""
    dataset = {
        "images": [{"id": 1, "width": 200, "height": 200}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"id": first + i, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for i, box in enumerate(BOXES)
        ],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9 - i / 10} for i, box in enumerate(BOXES)]
    coco, evaluation = PAIRS[package]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        objects = coco()
        objects.dataset = dataset
        objects.createIndex()
        result = evaluation(objects, objects.loadRes(found), "bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
    return round(float(result.stats[0]), 3), sum("id 0" in str(warning.message) for warning in caught)


seen = {package: [precision(package, first) for first in (1, 0)] for package in PAIRS}
for package, answers in seen.items():
    version = importlib.metadata.version(package)
    print(f"{package} {version}, (AP, warnings) with ids from 1 and from 0: {answers}")
plain, warned = seen.values()
assert plain[0] == warned[0] == (1.0, 0) and plain[1] == (0.252, 0), "the behaviour has changed"
assert warned[1][0] == plain[1][0] and warned[1][1] > 0, "the behaviour has changed"
PYTHON
