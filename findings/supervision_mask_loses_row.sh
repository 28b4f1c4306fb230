#!/bin/bash
# supervision writes masks to COCO one row and one column smaller than they are, for everyone but itself.
#
# Expected: a mask written as a polygon and drawn again by pycocotools is the mask, or nearly so on slanted edges.
# Seen with supervision 0.31.2 and pycocotools 2.0.11: the polygon's corners are the numbers of the outermost pixels,
# while COCO counts from edge to edge. A plate of 40x30 pixels comes back with 39x29 of them, though "area" says 1200; a
# bar of 40x3 keeps 78 of 120, an IoU of 0.65. mask_to_xyxy() gives 39x29 and 39x2 for boxes too. supervision itself
# draws the outline with its pixels, and reads the masks back as they were.
# Why it matters: on such a data set the right masks have an AP of 0.9 for the plate and 0.4 for the bar, and networks
# learn smaller shapes. Who writes with one package and evaluates with the other sees a bad network, not a bad file.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    supervision==0.31.2 pycocotools==2.0.11 numpy==2.4.6 opencv-python-headless==5.0.0.93
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import sys

import numpy as np
import supervision as sv
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

folder = sys.argv[1]
photo = f"{folder}/photo.png"
Image.new("RGB", (120, 60)).save(photo)
masks = np.zeros((2, 60, 120), bool)
masks[0, 10:40, 10:50] = True  # 40x30
masks[1, 10:13, 60:100] = True  # 40x3
boxes = sv.mask_to_xyxy(masks)
objects = sv.Detections(xyxy=boxes.astype(float), mask=masks, class_id=np.array([0, 1]))
dataset = sv.DetectionDataset(classes=["plate", "bar"], images=[photo], annotations={photo: objects})
dataset.as_coco(images_directory_path=f"{folder}/images", annotations_path=f"{folder}/objects.json")
((_, _, again),) = sv.DetectionDataset.from_coco(f"{folder}/images", f"{folder}/objects.json", force_masks=True)

with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO(f"{folder}/objects.json")
    written = sorted(truth.anns.values(), key=lambda each: each["category_id"])
    corners = [np.reshape(each["segmentation"], (-1, 2)) for each in written]  # the evaluation replaces them
    drawn = np.array([truth.annToMask(each) for each in written]).astype(bool)
    found = [
        {
            "image_id": each["image_id"],
            "category_id": each["category_id"],
            "segmentation": run_lengths.encode(np.asfortranarray(mask.astype(np.uint8))),
            "score": 0.9,
        }
        for each, mask in zip(written, masks, strict=True)
    ]
    evaluation = COCOeval(truth, truth.loadRes(found), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    precisions = evaluation.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))  # of each class

versions = [f"{name} {importlib.metadata.version(name)}" for name in ("supervision", "pycocotools")]
print(", ".join(versions))
print(f"pixels {masks.sum((1, 2))}, areas written {[each['area'] for each in written]}, boxes {boxes.tolist()}")
print(f"drawn by pycocotools {drawn.sum((1, 2))}, read by supervision {again.mask.sum((1, 2))}")
outermost = [[*points.min(0).tolist(), *points.max(0).tolist()] for points in corners]
ious = ((drawn & masks).sum((1, 2)) / (drawn | masks).sum((1, 2))).round(2).tolist()
print(f"outermost corners of the polygons {outermost}, IoU with the masks {ious}")
print(f"AP of the masks themselves, as an answer: {precisions.round(4)}")
assert [each["area"] for each in written] == [1200, 120], "the behaviour has changed"
assert boxes.tolist() == [[10, 10, 49, 39], [60, 10, 99, 12]], "the behaviour has changed"
assert drawn.sum((1, 2)).tolist() == [39 * 29, 39 * 2] and not (drawn & ~masks).any(), "the behaviour has changed"
assert outermost == boxes.tolist() and ious[1] == 0.65, "the behaviour has changed"
assert (again.mask == masks).all(), "the behaviour has changed"
assert precisions.round(4).tolist() == [0.9, 0.4], "the behaviour has changed"
PYTHON
