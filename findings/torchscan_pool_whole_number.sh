#!/bin/bash
# torchscan counts a pool with a kernel of 7 as if it had 7 places, and one with a kernel of (7, 7) with its 49.
#
# Expected: AvgPool2d(7), AvgPool2d((7, 7)) and AdaptiveAvgPool2d(1) are one computation on a map of 7x7.
# Seen with torchscan 0.2.0: the first costs 8 operations for each channel, the two others 50; MaxPool2d(3) costs 2 for
# each pixel, MaxPool2d((3, 3)) 8. Its report says "complete" for both. A convolution costs the same either way. Two
# numbers for the kernel do without it.
# Why it matters: a network looks cheaper if its pools are written with one number, as most are.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torchscan==0.2.0 torch==2.15.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

from torch import nn
from torchscan import crawl_module

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torchscan", "torch")))
seen = []
for layer in (
    nn.AvgPool2d(7),
    nn.AvgPool2d((7, 7)),
    nn.AdaptiveAvgPool2d(1),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.MaxPool2d((3, 3), stride=2, padding=1),
    nn.Conv2d(16, 16, 3, bias=False),
    nn.Conv2d(16, 16, (3, 3), bias=False),
):
    totals = crawl_module(layer, (16, 7, 7))["totals"]
    counts = [totals[name]["value"] for name in ("module_flops", "macs")]
    states = {totals[name]["status"] for name in ("module_flops", "macs")}
    print(f"{layer}: {counts[0]} FLOPs, {counts[1]} MACs, {states}")
    assert states == {"complete"}, "the behaviour has changed"
    seen.append(counts[0])
assert seen[:3] == [16 * 8, 16 * 50, 16 * 50], "the behaviour has changed"
assert seen[3:5] == [16 * 16 * 2, 16 * 16 * 8] and seen[5] == seen[6], "the behaviour has changed"
PYTHON
