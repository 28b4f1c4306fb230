#!/usr/bin/env bash
# torchvision's batched_nms keeps other boxes if a category has another number, or if there are more boxes elsewhere.
#
# Expected: an index only says which boxes belong together: the same boxes are kept with the index 0 and with 391895.
# Seen with torchvision 0.29.2: of two boxes with an IoU of 0.002 one is dropped at a threshold of 0.5 with the index
# 391895, the number of an image in COCO; of two with 0.49 one is dropped with the class 1202, and none with class 0 or
# 1. Up to 1000 boxes on a CPU are moved apart by index times the largest coordinate, in float32, where 391895 * 1281
# leaves steps of 32 pixels. With 1001 boxes each index is done by itself, and the answers are right.
# Why it matters: the text promises a "batched fashion", and image numbers are what one has at hand for that; small
# objects of a data set with a thousand classes are dropped by another threshold in each class.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import torch
import torchvision
from torchvision.ops import batched_nms, box_iou, nms

CORNERS = [[82.0, 82.0, 113.0, 113.0], [111.0, 111.0, 142.0, 142.0]]
HALVES = [[300.07, 200.0, 308.07, 208.0], [302.81, 200.0, 310.81, 208.0]]
FAR = [700.0, 700.0, 1280.0, 720.0]  # of another index


def kept(pair: list[list[float]], index: int, others: int = 1) -> list[int]:
    """Which of two boxes of one index are kept, if there are so many boxes of another index far away."""
    boxes = torch.tensor([*pair, *[FAR] * others])
    indices = torch.tensor([index, index] + [3] * others)
    answer = batched_nms(boxes, torch.linspace(0.9, 0.1, len(boxes)), indices, 0.5)
    return sorted(i for i in answer.tolist() if i < 2)


seen = {}
for name, pair in {"corners": CORNERS, "halves": HALVES}.items():
    boxes = torch.tensor(pair)
    iou = round(box_iou(boxes, boxes)[0, 1].item(), 4)
    alone = sorted(nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist())
    few = {index: kept(pair, index) for index in (0, 1, 1202, 391895)}
    many = {index: kept(pair, index, 999) for index in few}
    seen[name] = iou, alone, few, many
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}")
for name, (iou, alone, few, many) in seen.items():
    print(f"{name}, IoU {iou}: nms keeps {alone}, batched_nms by index {few}, with 1001 boxes {many}")
for _, alone, few, many in seen.values():
    assert alone == few[0] == few[1] == [0, 1] and few[391895] == [0], "the behaviour has changed"
    assert all(answer == alone for answer in many.values()), "the behaviour has changed"
assert seen["corners"][2][1202] == [0, 1] and seen["halves"][2][1202] == [0], "the behaviour has changed"
PYTHON
