#!/usr/bin/env bash
# torchvision's wrapper for detection data sets fails on VOC images without objects, and for COCO's gives no boxes.
#
# Expected: an image without objects has no boxes: a tensor of [0, 4] and labels of [0], which torchvision's detectors
# take in training.
# Seen with torchvision 0.29.2: wrap_dataset_for_transforms_v2(VOCDetection) raises KeyError: 'bndbox' for it, where
# the data set itself gives an empty list; for CocoDetection the target has neither "boxes" nor "labels", so that
# Faster R-CNN stops with KeyError: 'boxes'.
# Why it matters: pictures of the background are in every data set of one's own, and training stops at the first.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 torchvision==0.29.2 pycocotools==2.0.11 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import io
import json
import sys
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torchvision.datasets import CocoDetection, VOCDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

BOX = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>50</xmax><ymax>40</ymax></bndbox>"
OBJECTS = {"with": f"<object><name>dog</name>{BOX}</object>", "without": ""}  # two images, and what is in them
root = Path(sys.argv[1], "data", "VOCdevkit", "VOC2012")
for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
    (root / name).mkdir(parents=True)
for name, xml in OBJECTS.items():
    Image.new("RGB", (64, 48)).save(root / "JPEGImages" / f"{name}.jpg")
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation><filename>{name}.jpg</filename>{xml}</annotation>")
(root / "ImageSets/Main/train.txt").write_text("\n".join(OBJECTS))
content = {
    "images": [{"id": i, "file_name": f"{name}.jpg", "width": 64, "height": 48} for i, name in enumerate(OBJECTS, 1)],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 45, 35], "area": 1575, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "dog"}],
}
(root / "coco.json").write_text(json.dumps(content))
with contextlib.redirect_stdout(io.StringIO()):
    coco = wrap_dataset_for_transforms_v2(CocoDetection(root / "JPEGImages", root / "coco.json"))
plain = VOCDetection(root.parent.parent, image_set="train")
raw = plain[1][1]["annotation"]["object"]
voc = wrap_dataset_for_transforms_v2(plain)


def keys(data: torch.utils.data.Dataset, index: int) -> list[str] | str:
    """The keys of an image's target, or the error."""
    try:
        return sorted(data[index][1])
    except KeyError as error:
        return f"KeyError: {error}"


detector = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).train()


def trained(target: dict[str, torch.Tensor]) -> str:
    """What a step of training says to an image with this target."""
    try:
        return f"losses {sorted(detector([torch.zeros(3, 48, 64)], [target]))}"
    except KeyError as error:
        return f"KeyError: {error}"


seen = {"VOC": [keys(voc, i) for i in (0, 1)], "COCO": [keys(coco, i) for i in (0, 1)]}
steps = trained({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}), trained(coco[1][1])
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, VOC's objects without the wrapper: {raw}")
print(f"targets of an image with an object and of one without: {seen}")
print(f"Faster R-CNN with boxes of [0, 4]: {steps[0]}; with COCO's target: {steps[1]}")
assert raw == [] and seen["VOC"] == [["boxes", "labels"], "KeyError: 'bndbox'"], "the behaviour has changed"
assert seen["COCO"] == [["boxes", "image_id", "labels"], ["image_id"]], "the behaviour has changed"
assert steps[0].startswith("losses") and steps[1] == "KeyError: 'boxes'", "the behaviour has changed"
PYTHON
