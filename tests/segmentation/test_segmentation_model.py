# SPDX-License-Identifier: Apache-2.0
"""Mobile DeepLabv3 has the paper's size and computes what torchvision's parts compute."""

import copy

import pytest
import torch
import torchvision
from random_networks import assert_equal_tensors, random_images, randomise_statistics
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.segmentation.deeplabv3 import ASPP

from core.folding import folded
from model import TENSORFLOW, TORCHVISION, Definition
from segmentation.model import DeepLabV3, enlarge

CLASSES = 5


def network_with_statistics(definition: Definition = TORCHVISION, **options: object) -> DeepLabV3:
    torch.manual_seed(3)
    network = DeepLabV3(CLASSES, definition=definition, **options)
    randomise_statistics(network)
    return network.eval()


@pytest.mark.parametrize(
    ("output_stride", "last_map", "parameters", "million_macs"),
    [
        (16, False, 2_113_557, 2741),
        (8, False, 2_113_557, 8826),
        (16, True, 3_017_237, 3455),
        (8, True, 3_017_237, 11595),
    ],
)
def test_cost_at_513_pixels(output_stride: int, last_map: bool, parameters: int, million_macs: int) -> None:
    """The first row is that of Table 7 of the paper: 2.11 M and 2.75 B, for the 21 classes of Pascal VOC.

    Counted are the convolutions. Of the multiply-adds 2,503 M are the features', as 513 pixels give 257, 129, 65 and
    33; the paper does not say what its other 9 M are.
    """
    with torch.device("meta"):
        network = DeepLabV3(output_stride=output_stride, last_map=last_map).eval()
        with FlopCounterMode(display=False) as counter:
            logits = network(torch.empty(1, 3, 513, 513))
    assert logits.shape == (1, 21, 513, 513)
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert round(counter.get_total_flops() / 2e6) == million_macs


def their_logits(network: DeepLabV3, images: Tensor) -> Tensor:
    """What the same weights give in torchvision's network, whose last stride is taken out, and its head."""
    features = torchvision.models.mobilenet_v2().features[: len(network.features)]
    features.load_state_dict(network.features.state_dict())
    features[14].conv[1][0].stride = (1, 1)
    for block in features[15:18]:
        block.conv[1][0].dilation = block.conv[1][0].padding = (2, 2)
    head = nn.Sequential(ASPP(320 if len(features) == 18 else 1280, []), nn.Conv2d(256, CLASSES, 1))
    head.load_state_dict(network.classifier.state_dict())
    logits = head.eval()(features.eval()(images))
    return nn.functional.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)


@torch.no_grad()
@pytest.mark.parametrize("last_map", [False, True])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (97, 65)])
def test_logits_equal_torchvisions(height: int, width: int, last_map: bool) -> None:
    network, images = network_with_statistics(last_map=last_map), random_images(height, width)
    logits = network(images)
    assert logits.shape == (2, CLASSES, height, width)
    assert torch.equal(logits, their_logits(network, images))


@pytest.mark.parametrize("small", [(1, 1), (8, 12), (13, 9)])
@pytest.mark.parametrize("large", [(64, 96), (97, 65)])
def test_maps_are_enlarged_in_training_as_torch_interpolates(small: tuple[int, int], large: tuple[int, int]) -> None:
    maps, weights = torch.randn(2, CLASSES, *small, requires_grad=True), torch.randn(2, CLASSES, *large)
    with torch.autocast("cpu", torch.bfloat16):
        found = enlarge(maps, large)
    expected = nn.functional.interpolate(maps, large, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each, maps, weights)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5 * gradients[1].abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("definition", [TORCHVISION, TENSORFLOW])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_folded_network_gives_the_same_logits(output_stride: int, definition: Definition) -> None:
    network = network_with_statistics(definition, output_stride=output_stride).to(memory_format=torch.channels_last)
    images = random_images(64, 97)
    expected = network(images)
    copied = folded(network)
    torch.testing.assert_close(copied(images), expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in copied.modules())


@pytest.mark.parametrize("width", [0.35, 0.5, 1.0, 1.4])
@pytest.mark.parametrize("last_map", [False, True])
def test_imagenet_weights_fit_unchanged(width: float, last_map: bool) -> None:
    theirs = torchvision.models.mobilenet_v2(width_mult=width).features.state_dict()
    ours = DeepLabV3(CLASSES, width, last_map=last_map).features
    ours.load_state_dict({name: theirs[name] for name in ours.state_dict()})
    assert len(ours) == (19 if last_map else 18)
    assert_equal_tensors(ours.state_dict(), {name: theirs[name] for name in theirs if name in ours.state_dict()})


def test_definition_is_in_every_layer_that_it_is_of() -> None:
    norms = [layer for layer in DeepLabV3(2, definition=TENSORFLOW).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}


def test_network_learns_which_half_is_bright() -> None:
    torch.manual_seed(0)
    network = DeepLabV3(2, width_mult=0.35, dropout=0.0).train()
    images = 0.1 * torch.randn(4, 3, 64, 64)
    images[:2, :, :, 32:] += 1
    images[2:, :, 32:] += 1
    targets = (images.mean(1) > 0.5).long()
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    before = copy.deepcopy(network.state_dict())
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    assert (network(images).argmax(1) == targets).float().mean() > 0.9
    assert not torch.equal(before["features.0.0.weight"], network.state_dict()["features.0.0.weight"])
