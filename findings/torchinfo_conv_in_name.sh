#!/bin/bash
# torchinfo counts a convolution once for an image, not for each place, unless its class has "Conv" in its name.
#
# Expected: a class that is derived from Conv2d, and changes nothing, costs what Conv2d costs.
# Seen with torchinfo 1.8.0: a 1x1 layer from 32 to 64 channels on a map of 14x14 has 401408 mult-adds as Conv2d, and as
# a class PointwiseConv. As a class Pointwise it has 2048, a 196th of it. Parameters and sizes are right for each. torch
# 2.15.0's FlopCounterMode counts the same for all. A name with "Conv" in it does without it.
# Why it matters: repositories have their own classes of layers, for padding or for their start; the table shows
# a number for each of them, and MobileNet's mult-adds are nearly all in such layers.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torchinfo==1.8.0 torch==2.15.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import torch
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Pointwise(nn.Conv2d):
    """A convolution."""


class PointwiseConv(nn.Conv2d):
    """The same one."""


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torchinfo", "torch")))
seen = {}
for kind in (nn.Conv2d, PointwiseConv, Pointwise):
    layer, size = kind(32, 64, 1, bias=False), (1, 32, 14, 14)
    table = torchinfo.summary(layer, input_size=size, verbose=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(size))
    seen[kind.__name__] = (table.total_mult_adds, table.total_params, counter.get_total_flops() // 2)
    print(f"{kind.__name__}: mult-adds {seen[kind.__name__][0]}, parameters {table.total_params}")
right = (401408, 2048, 401408)
assert seen["Conv2d"] == seen["PointwiseConv"] == right, "the behaviour has changed"
assert seen["Pointwise"] == (2048, 2048, 401408), "the behaviour has changed"
PYTHON
