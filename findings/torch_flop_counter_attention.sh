#!/bin/bash
# torch's FlopCounterMode counts nothing for the attention of a network that is measured as it is used, under no_grad.
#
# Expected: the number of operations of a network in eval() is the same with torch.no_grad() and without it; for
# torchvision's ViT-B/16 it is 17.56 billion multiply-adds, as its weights' description says.
# Seen with torch 2.15.0: 17.56 billion with gradients, 11.27 without: the third in the attention layers has gone. In
# eval() without gradients nn.MultiheadAttention calls one operation, torch._native_multi_head_attention, and
# nn.TransformerEncoderLayer another for the whole layer. The counter has no formula for either and takes 0: an encoder
# layer costs nothing at all. Nothing is said, also not in the table that the counter prints.
# Why it matters: torch.no_grad() is how one measures a network. Vision transformers look a third cheaper, or free,
# beside convolutional networks, which are counted rightly.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def counted(network: nn.Module, example: torch.Tensor, gradients: bool) -> int:
    """Multiply-adds of one call."""
    counter = FlopCounterMode(display=False)
    with torch.set_grad_enabled(gradients), counter:
        network(example)
    return counter.get_total_flops() // 2


torch.manual_seed(0)
places, width, batch, inner = 49, 64, 2, 128
projections = batch * places * width * width * 4  # query, key, value and the answer
attention = batch * places * places * width * 2  # the products of queries and keys, and those with the values
perceptron = batch * places * width * inner * 2
encoder = nn.TransformerEncoderLayer(width, 4, inner, batch_first=True).eval()
transformer = torchvision.models.vit_b_16().eval()
convolutional = torchvision.models.resnet18().eval()
image = torch.rand(1, 3, 224, 224)
described = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta["_ops"]

sequence = torch.rand(batch, places, width)
with torch.no_grad():
    fast = encoder(sequence)
with torch.enable_grad():
    assert torch.allclose(encoder(sequence), fast, atol=1e-5), "both ways give the same answer"

print(f"torch {torch.__version__}, torchvision {torchvision.__version__}; millions of multiply-adds")
for name, network, example, right, seen in (
    ("encoder layer", encoder, sequence, (projections + attention + perceptron) / 1e6, 0),
    ("ViT-B/16", transformer, image, described * 1e3, 11271.125),
    ("ResNet-18", convolutional, image, torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["_ops"] * 1e3, 1814.073),
):
    gradients, plain = (counted(network, example, with_gradients) / 1e6 for with_gradients in (True, False))
    print(f"{name}: {right:.3f} by hand or description, {gradients:.3f} with gradients, {plain:.3f} without")
    assert abs(gradients - right) <= 0.001 * right, "the behaviour has changed"
    assert abs(plain - seen) < 0.01, "the behaviour has changed"
PYTHON
