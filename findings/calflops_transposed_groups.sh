#!/bin/bash
# calflops counts no multiply-adds at all for a depthwise transposed convolution, and too few for one with groups.
#
# Expected: each value of the map is multiplied with each weight of its group once: pixels x all weights of the layer.
# Seen with calflops 0.3.2: it divides the output channels by the groups twice. Of a layer with 32 channels in 2 groups
# it counts the half, in 4 groups the quarter, and of a depthwise one nothing, with no word. Convolutions with groups
# that are not transposed are right. torch 2.15.0's own FlopCounterMode is right for all, and does without it.
# Why it matters: a decoder that enlarges with depthwise transposed convolutions looks free next to one that does not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    calflops==0.3.2 torch==2.15.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.15.0 huggingface-hub==2.4.0
PYTHONPATH="$folder" OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python3 - <<'PYTHON'
import importlib.metadata

import torch
from calflops import calculate_flops
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SIZE = (1, 32, 16, 16)


def counts(layer: nn.Module) -> tuple[int, int]:
    """The multiply-adds that calflops and torch count."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.ones(SIZE))
    _, found, _ = calculate_flops(layer, input_shape=SIZE, print_results=False, output_as_string=False)
    return int(found), counter.get_total_flops() // 2


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("calflops", "torch")))
for groups in (1, 2, 4, 32):
    plain = nn.Conv2d(32, 32, 4, stride=2, padding=1, groups=groups, bias=False)
    transposed = nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1, groups=groups, bias=False)
    # The transposed layer starts from 16x16 places, the other one ends with 8x8.
    right = [8 * 8 * plain.weight.numel(), 16 * 16 * transposed.weight.numel()]
    found, of_torch = zip(*(counts(layer) for layer in (plain, transposed)), strict=True)
    print(f"{groups} groups: plain {found[0]} of {right[0]}, transposed {found[1]} of {right[1]}")
    assert list(of_torch) == right and found[0] == right[0], "the behaviour has changed"
    assert found[1] == (0 if groups == 32 else right[1] // groups), "the behaviour has changed"
PYTHON
