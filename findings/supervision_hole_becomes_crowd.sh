#!/usr/bin/env bash
# supervision writes an object whose mask has a hole, or two parts, to COCO as a crowd; evaluations then leave it out.
#
# Expected: the shape is written as run lengths, which can hold holes, and the object stays an object: iscrowd 0.
# Seen with supervision 0.31.2: DetectionDataset.as_coco() gives it iscrowd 1, and its neighbour without a hole 0.
# pycocotools 2.0.11 takes a crowd as neither to be found nor to be missed: with both found its class has an AP of -1,
# "no object", where 1.0 is right. So does supervision's own MeanAveragePrecision of the file read again.
# Why it matters: cups, wheels and what others stand before are neither scored nor, in most trainings, learned.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    supervision==0.31.2 pycocotools==2.0.11 numpy==2.4.6 opencv-python-headless==5.0.0.93
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import sys

import numpy as np
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from supervision.metrics import MeanAveragePrecision

folder = sys.argv[1]
Image.new("RGB", (120, 60)).save(f"{folder}/photo.png")
masks = np.zeros((2, 60, 120), bool)
masks[0, 10:40, 10:50] = True
masks[0, 20:30, 20:40] = False  # a hole
masks[1, 10:40, 60:100] = True
boxes = np.array([[10, 10, 50, 40], [60, 10, 100, 40]], float)
objects = sv.Detections(xyxy=boxes, mask=masks, class_id=np.array([0, 1]))
photo = f"{folder}/photo.png"
dataset = sv.DetectionDataset(classes=["cup", "box"], images=[photo], annotations={photo: objects})
dataset.as_coco(images_directory_path=f"{folder}/images", annotations_path=f"{folder}/objects.json")
with open(f"{folder}/objects.json") as file:
    written = json.load(file)["annotations"]
crowds = {each["category_id"]: each["iscrowd"] for each in written}
areas = [each["area"] for each in written]

with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO(f"{folder}/objects.json")
    found = [
        {"image_id": each["image_id"], "category_id": each["category_id"], "bbox": each["bbox"], "score": 0.9}
        for each in written
    ]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    precisions = evaluation.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))  # of each class

((_, _, read),) = sv.DetectionDataset.from_coco(f"{folder}/images", f"{folder}/objects.json")
answer = sv.Detections(xyxy=boxes, class_id=np.array([0, 1]), confidence=np.array([0.9, 0.9]))
own = MeanAveragePrecision().update([answer], [read]).compute()
version = importlib.metadata.version("supervision")
print(f"supervision {version}: iscrowd of the class with a hole and of the other: {crowds}, areas {areas}")
print(f"AP of each class by pycocotools, both objects being found: {precisions}; supervision's own: {own.ap_per_class}")
assert sorted(crowds.items())[0][1] == 1 and sorted(crowds.items())[1][1] == 0, "the behaviour has changed"
assert precisions[0] == -1 and precisions[1] > 0.999, "the behaviour has changed"
assert (own.ap_per_class[0] == -1).all() and (own.ap_per_class[1] > 0.999).all(), "the behaviour has changed"
assert read.xyxy.tolist() == boxes.tolist() and areas == [1000, 1200], "the behaviour has changed"
PYTHON
