# SPDX-License-Identifier: Apache-2.0
"""Networks and images for the tests of the network."""

import torch
from torch import Tensor, nn

from model import TORCHVISION, Definition, MobileNetV2


def random_images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_equal_tensors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert list(ours) == list(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def network_with_statistics(definition: Definition = TORCHVISION) -> nn.Module:
    """A network whose batch-norms do something: random scales, shifts, means and variances."""
    torch.manual_seed(3)
    network = MobileNetV2(definition=definition)
    randomise_statistics(network)
    return network.to(memory_format=torch.channels_last)


def randomise_statistics(network: nn.Module) -> None:
    """Give batch-norms random scales, shifts, means and variances."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
