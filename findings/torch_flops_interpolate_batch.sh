#!/bin/bash
# torch-flops counts an enlargement by 2 as twice as dear for each image more in the batch: for 8, 256 times their maps.
#
# Expected: twice the images cost twice as much, and F.interpolate() costs the same whether it is given the factor or
# the size that comes of it.
# Seen with torch-flops 0.4.1: with scale_factor=2 it multiplies the numbers of the input with 2 to the power of the
# batch, so that 1, 2, 4 and 8 images cost 2, 8, 64 and 2048 maps; with size= it counts rows x columns for any number of
# channels and images. Convolutions grow with the batch as they should. ignore_ops=["interpolate"] leaves it out.
# Why it matters: the head of a segmentation network ends with an enlargement; with a batch of 32 that is all that the
# total shows.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch-flops==0.4.1 torch==2.15.0 numpy==2.4.6 tabulate==0.10.0
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import torch
from torch import nn
from torch.nn import functional as F
from torch_flops import TorchFLOPsByFX


class Head(nn.Module):
    """A classifier of pixels, whose scores are enlarged."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.classifier, self.options = nn.Conv2d(4, 21, 1, bias=False), options

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.classifier(features), mode="bilinear", align_corners=False, **self.options)


def counts(batch: int, **options) -> dict[str, int]:
    """What each operation costs."""
    counter = TorchFLOPsByFX(Head(**options), mem_func_name="memory_allocated")
    with torch.no_grad():
        counter.propagate(torch.zeros(batch, 4, 16, 16))
    return {row[0]: row[4] for row in counter.print_result_table(show=False)}


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch-flops", "torch")))
one = 21 * 16 * 16
for batch in (1, 2, 4, 8):
    by_factor, by_size = counts(batch, scale_factor=2), counts(batch, size=(32, 32))
    print(f"{batch} images: convolution {by_factor['classifier']}, enlarged by 2 {by_factor['interpolate']}, ", end="")
    print(f"to 32x32 {by_size['interpolate']}; the answer has {batch * 21 * 32 * 32} numbers")
    assert by_factor["classifier"] == by_size["classifier"] == batch * one * 7, "the behaviour has changed"
    assert by_factor["interpolate"] == batch * one * 2**batch, "the behaviour has changed"
    assert by_size["interpolate"] == 32 * 32, "the behaviour has changed"
PYTHON
