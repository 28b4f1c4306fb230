#!/usr/bin/env bash
# torchmetrics' MeanIoU is the mean over pairs of image and class, not the mean IoU of a data set.
#
# Expected: mean IoU for semantic segmentation as PASCAL VOC and Cityscapes have it: pixels are counted over all images,
# then comes one IoU for each class, and their mean. And per_class=True gives the numbers that are averaged otherwise.
# Seen with torchmetrics 1.9.0: a class found without a mistake in the one image that has it, with one false pixel in
# each of four others, has an IoU of 0.2 where 0.9992 is right: each false pixel counts as an image. The mean of the two
# classes by per_class=True is 0.6, and without per_class it is 0.7333. JaccardIndex of the same package is right.
# Why it matters: such a number is far off published ones, most for rare classes, and picks other checkpoints.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 torchmetrics==1.9.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import torch
import torchmetrics
from torchmetrics import JaccardIndex
from torchmetrics.segmentation import MeanIoU

target = torch.zeros(10, 100, 100, dtype=torch.long)
target[0, :, :50] = 1
answer = target.clone()
answer[1:5, 0, 0] = 1  # one false pixel in each of four images

right = []
for label in (0, 1):
    both = ((answer == label) & (target == label)).sum()
    right.append(both / ((answer == label) | (target == label)).sum())
right = torch.stack(right)
each, mean = (MeanIoU(num_classes=2, input_format="index", per_class=per_class) for per_class in (True, False))
jaccard = JaccardIndex(task="multiclass", num_classes=2, average="none")
for i in range(10):
    for metric in (each, mean, jaccard):
        metric.update(answer[i : i + 1], target[i : i + 1])
seen = {"MeanIoU": mean.compute(), "of each class": each.compute(), "JaccardIndex of each class": jaccard.compute()}
print(f"torch {torch.__version__}, torchmetrics {torchmetrics.__version__}, IoU of each class over all pixels: {right}")
print(seen)
assert torch.allclose(jaccard.compute(), right), "the behaviour has changed"
assert right[1] > 0.999 and abs(each.compute()[1] - 0.2) < 1e-4, "the behaviour has changed"
assert abs(each.compute().mean() - 0.6) < 1e-3 and abs(mean.compute() - 11 / 15) < 1e-3, "the behaviour has changed"
PYTHON
