#!/usr/bin/env bash
# torchmetrics' mAP runs pycocotools with thresholds rounded to float32, so it is not pycocotools' mAP.
#
# Expected: the same numbers, as it is pycocotools that is called, and the thresholds are documented as 0.5 to 0.95 in
# steps of 0.05, and 0 to 1 in steps of 0.01.
# Seen with torchmetrics 1.9.0 and pycocotools 2.0.11: 0.6 is passed as 0.6000000238, so that a box with an IoU of
# exactly 0.6 has mAP 0.2 instead of 0.3; a recall of 0.6 does not reach the threshold of 0.6 either, so that six of
# ten objects found give 0.5941 instead of 0.6040. Thresholds handed over as Python floats give pycocotools' numbers.
# Why it matters: recalls are whole parts of the number of objects, and hit thresholds; the mAP of a small class is off
# by a hundredth, and no mAP can be compared to the last digit with those of pycocotools.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 torchvision==0.29.2 torchmetrics==1.9.0 pycocotools==2.0.11 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import contextlib
import importlib.metadata
import io

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

ONE = [[0.0, 0.0, 100.0, 100.0]]
TEN = [[100.0 * i, 0.0, 90.0, 90.0] for i in range(10)]
CASES = {"IoU of 0.6": (ONE, [[0.0, 0.0, 60.0, 100.0]]), "six of ten found": (TEN, TEN[:6])}


def by_pycocotools(objects: list[list[float]], found: list[list[float]]) -> float:
    coco = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        coco.dataset = {
            "images": [{"id": 1}],
            "categories": [{"id": 1}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                for i, box in enumerate(objects, 1)
            ],
        }
        coco.createIndex()
        found_too = coco.loadRes([{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in found])
        evaluation = COCOeval(coco, found_too, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return round(float(evaluation.stats[0]), 4)


def by_torchmetrics(objects: list[list[float]], found: list[list[float]], **settings: list[float]) -> float:
    metric = MeanAveragePrecision(box_format="xywh", **settings)
    answer = {"boxes": torch.tensor(found), "scores": torch.full((len(found),), 0.9)}
    answer["labels"] = torch.ones(len(found), dtype=torch.long)
    metric.update([answer], [{"boxes": torch.tensor(objects), "labels": torch.ones(len(objects), dtype=torch.long)}])
    return round(metric.compute()["map"].item(), 4)


EXACT = {"iou_thresholds": np.linspace(0.5, 0.95, 10).tolist(), "rec_thresholds": np.linspace(0, 1, 101).tolist()}
seen = {
    name: (by_pycocotools(*boxes), by_torchmetrics(*boxes), by_torchmetrics(*boxes, **EXACT))
    for name, boxes in CASES.items()
}
versions = {name: importlib.metadata.version(name) for name in ("torch", "torchmetrics", "pycocotools")}
print(f"{versions}, thresholds passed on: {MeanAveragePrecision().iou_thresholds[:4]}...")
print(f"mAP by pycocotools, torchmetrics, and torchmetrics with the thresholds given as floats: {seen}")
assert list(seen.values()) == [(0.3, 0.2, 0.3), (0.604, 0.5941, 0.604)], "the behaviour has changed"
PYTHON
