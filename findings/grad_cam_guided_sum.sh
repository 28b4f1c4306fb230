#!/bin/bash
# grad-cam's guided backpropagation gives the sum of all maps so far if it is asked twice about one picture.
#
# Expected: GuidedBackpropReLUModel(network)(picture, target) is the map of that target, whatever was asked before.
# Seen with grad-cam 1.5.7: the gradient is left in the picture's tensor, and the next call adds to it. The map of class
# 1 is that of class 0 plus that of class 1, and a third call adds once more. The caller's tensor requires a gradient
# afterwards. With a copy of the picture for each call the maps are right. GradCAM of the same package is right.
# Why it matters: one asks for the maps of the best two classes of a picture to see how they differ, and the second one
# shows what both have in common. Nothing is said.
# Without it: model(picture.clone(), target_category=1).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    grad-cam==1.5.7 torch==2.15.0 torchvision==0.29.2 opencv-python-headless==5.0.0.93 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
picture = torch.rand(1, 3, 8, 8)
guided = GuidedBackpropReLUModel(network, device="cpu")
right = [guided(picture.clone(), target_category=target).copy() for target in (0, 1)]
assert not picture.requires_grad
seen = [guided(picture, target_category=target).copy() for target in (0, 1, 1)]

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("grad-cam", "torch")))
print(f"map of class 0 right: {np.allclose(seen[0], right[0])}; of class 1: {np.allclose(seen[1], right[1])}")
print(f"class 1 is the sum of both: {np.allclose(seen[1], right[0] + right[1])}")
print(f"class 1 once more has it twice: {np.allclose(seen[2], right[0] + 2 * right[1])}")
assert np.allclose(seen[0], right[0]) and not np.allclose(right[0], right[1]), "the behaviour has changed"
assert np.allclose(seen[1], right[0] + right[1]), "the behaviour has changed"
assert np.allclose(seen[2], right[0] + 2 * right[1]) and picture.requires_grad, "the behaviour has changed"

photo = torch.rand(1, 3, 8, 8)
with GradCAM(network, [network[1]]) as cam:
    maps = [cam(photo, [ClassifierOutputTarget(target)]) for target in (0, 1, 0)]
assert np.array_equal(maps[0], maps[2]), "GradCAM has changed"
PYTHON
