# SPDX-License-Identifier: Apache-2.0
"""Make the channels of a network unequal, which computes the same in float and is hard on int8:

    python3 tests/scripts/exporting/unequal_channels.py SOURCE TARGET SPREAD

Behind each expansion every second channel gets a factor from 1 down to 2 ** -SPREAD, and the depthwise weights that
read it are divided by it. One scale for all channels then has few steps for the small ones. Only channels that ReLU6
does not clip keep what the network computes: those whose batch-norm stays below 6 by four deviations.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch
from torch import nn

from core.network_weights import extract_weights
from core.weights_files import read_checkpoint
from model import MobileNetV2


@torch.no_grad()
def make_unequal(network: nn.Module, spread: float) -> None:
    """In place; the same factors every time."""
    generator = torch.Generator().manual_seed(0)
    for block in network.features[2:18]:
        (_, norm, _), (depthwise, *_) = block.conv[0], block.conv[1]
        factors = torch.exp2(-spread * torch.rand(norm.num_features, generator=generator))
        factors[::2] = 1
        factors[norm.bias + 4 * norm.weight.abs() > 6] = 1
        norm.weight.mul_(factors)
        norm.bias.mul_(factors)
        depthwise.weight.div_(factors[:, None, None, None])


def main(source: str, target: str, spread: str) -> None:
    checkpoint = read_checkpoint(source)
    weights = extract_weights(checkpoint, source)
    network = MobileNetV2(len(weights["classifier.1.weight"]), checkpoint.get("model_width_mult", 1.0))
    network.load_state_dict(weights)
    make_unequal(network, float(spread))
    torch.save(checkpoint | {"state_dict": network.state_dict()}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
