# SPDX-License-Identifier: Apache-2.0
"""Make the channels of a network unequal, which computes the same in float and is hard on int8:

    python3 tests/scripts/exporting/unequal_channels.py SOURCE TARGET SPREAD

Each channel of the linear bottlenecks, which no ReLU6 clips, gets a factor from 1 to 2 ** SPREAD, and the weights that
read it are divided by it. One scale for all channels then has few steps for the small ones.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch
from torch import Tensor, nn

from core.network_weights import extract_weights
from core.weights_files import read_checkpoint
from model import MobileNetV2


@torch.no_grad()
def make_unequal(network: nn.Module, spread: float) -> None:
    """In place; the same factors every time."""
    generator = torch.Generator().manual_seed(0)
    factors: Tensor | None = None
    for block in network.features[1:18]:
        *before, norm = block.conv
        if factors is not None and len(before) == 3:
            before[0][0].weight.div_(factors[None, :, None, None])
        if factors is None or not block.has_skip:
            factors = torch.exp2(spread * torch.rand(norm.num_features, generator=generator))
        norm.weight.mul_(factors)
        norm.bias.mul_(factors)
    network.features[18][0].weight.div_(factors[None, :, None, None])


def main(source: str, target: str, spread: str) -> None:
    checkpoint = read_checkpoint(source)
    weights = extract_weights(checkpoint, source)
    network = MobileNetV2(len(weights["classifier.1.weight"]), checkpoint.get("model_width_mult", 1.0))
    network.load_state_dict(weights)
    make_unequal(network, float(spread))
    torch.save(checkpoint | {"state_dict": network.state_dict()}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
