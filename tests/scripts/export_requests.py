# SPDX-License-Identifier: Apache-2.0
"""What the tests of the writers export: small networks whose batch-norms do something, and pictures for them."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from exporting.networks import plain_network
from exporting.preparation import prepare_for_int8
from exporting.requests import FLOAT_INPUT, Choices, Request
from model import TORCHVISION, Definition, MobileNetV2

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
DESCRIPTION = {"format": "any", "classes": ["Hund", "Köter"], "input": {"layout": "NCHW", "mean": MEAN}}


def trained_network(definition: Definition = TORCHVISION) -> MobileNetV2:
    """Random weights, with the statistics of the pictures below in its batch-norms.

    Most values lie well inside ReLU6: where half of them are cut off, each batch-norm makes small differences larger,
    and after 35 layers those of int8 decide, which no trained network shows.
    """
    torch.manual_seed(0)
    network = MobileNetV2(5, 0.35, definition=definition)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 2.0, 0.3)
            module.momentum = None
    nn.init.normal_(network.classifier[1].weight)
    with torch.no_grad():
        network.train()(normalised(pictures(32, 64)))
    return network.eval()


def pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth colours: uint8 levels [N, S, S, 3]."""
    rough = torch.from_numpy(np.random.default_rng(seed).random((count, 3, 5, 5)))
    smooth = nn.functional.interpolate(rough, size=size, mode="bicubic").clamp(0, 1)
    return (255 * smooth).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def normalised(levels: np.ndarray) -> torch.Tensor:
    """The formula itself: (level / 255 - mean) / std, float32 [N, 3, S, S]."""
    images = (levels / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous()


def request_for(
    network: nn.Module,
    folder: Path,
    format: str,
    size: int = 64,
    int8: str = "",
    input: str = FLOAT_INPUT,
    softmax: bool = False,
    batch: str = "dynamic",
) -> Request:
    choices = Choices(format, int8, input, softmax, batch)
    plain = plain_network(network, choices, size, MEAN, STD)
    calibration = pictures(32, size) if int8 else None
    folder.mkdir(exist_ok=True)
    request = Request(choices, plain, size, MEAN, STD, calibration, DESCRIPTION, folder, "network")
    return request if calibration is None else prepare_for_int8(request, calibration)


def unequal(network: MobileNetV2) -> MobileNetV2:
    """The network with one channel 60 times as small as the others before each depthwise layer, and as large after."""
    with torch.no_grad():
        for block in network.features[2:18]:
            expansion, depthwise = block.conv[0], block.conv[1]
            expansion[1].weight[0] /= 60
            expansion[1].bias[0] /= 60
            depthwise[0].weight[0] *= 60
    return network
