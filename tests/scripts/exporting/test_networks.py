# SPDX-License-Identifier: Apache-2.0
"""exporting/networks.py: plain layers alone, and the logits of the network."""

import pytest
import torch
from random_networks import randomise_statistics
from torch import nn

from exporting.networks import plain_network
from exporting.requests import FLOAT_INPUT, LEVEL_INPUT, Choices
from model import TENSORFLOW, TORCHVISION, Definition, MobileNetV2

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def network_with(definition: Definition, width: float = 0.35) -> MobileNetV2:
    """Random weights, and batch-norms that do something."""
    torch.manual_seed(0)
    network = MobileNetV2(5, width, definition=definition)
    randomise_statistics(network)
    return network.eval()


@pytest.mark.parametrize("definition", [TORCHVISION, TENSORFLOW], ids=["torchvision", "tensorflow"])
@pytest.mark.parametrize("size", [32, 33, 75, 96])  # 75: odd and even sides within
@torch.no_grad()
def test_plain_network_computes_the_network(definition: Definition, size: int) -> None:
    network = network_with(definition)
    levels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    images = (levels.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    expected = network(images.clone())
    for input_kind, given in ((FLOAT_INPUT, images), (LEVEL_INPUT, levels)):
        for softmax in (False, True):
            choices = Choices("onnx", "", input_kind, softmax, "1")
            found = plain_network(network, choices, size, MEAN, STD)(given)
            torch.testing.assert_close(found, expected.softmax(1) if softmax else expected, rtol=0, atol=1e-6)
    assert isinstance(network.features[0][1], nn.BatchNorm2d)  # the network itself stays


def test_plain_network_has_the_layers_that_quantisers_know() -> None:
    """Table 2 of the paper: 1 + 2 + 16 x 3 + 1 convolutions, and the classifier."""
    for definition in (TORCHVISION, TENSORFLOW):
        choices = Choices("onnx", "", FLOAT_INPUT, False, "1")
        layers = list(plain_network(network_with(definition), choices, 64, MEAN, STD).modules())
        kinds = [type(layer) for layer in layers if not any(layer.children())]
        assert kinds.count(nn.Conv2d) == 52
        assert kinds.count(nn.ReLU6) == 35
        assert kinds.count(nn.Linear) == 1
        assert kinds.count(nn.ZeroPad2d) == (5 if definition == TENSORFLOW else 0)
        assert set(kinds) <= {nn.Conv2d, nn.ReLU6, nn.Linear, nn.Identity, nn.ZeroPad2d}
