# SPDX-License-Identifier: Apache-2.0
"""On maps of few pixels blocks have the values and gradients of torchvision's, in double precision."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual as TheirBlock

from core import recomputing
from core.folding import has_fused_convolution
from core.processes import SyncBatchNorm
from core.small_maps import LARGEST_PRODUCT, call_layers
from model import TENSORFLOW, InvertedResidual, MobileNetV2

BLOCKS = [(1, 1, 16), (1, 6, 16), (2, 6, 24)]  # stride, expansion, channels


def maps(side: int) -> Tensor:
    values = torch.randn(6, 16, side, side, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return values.contiguous(memory_format=torch.channels_last)


def outcome(call: Callable[[Tensor], Tensor], block: nn.Module, side: int) -> list[Tensor]:
    """What a block gives, the gradients of what it reads and of its weights, and its statistics."""
    x = maps(side).requires_grad_()
    y = call(x)
    directions = torch.randn(y.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    gradients = torch.autograd.grad((y * directions).sum(), [x, *block.parameters()])
    return [y, *gradients, *block.buffers()]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 8, 9])
@pytest.mark.parametrize(("stride", "expand_ratio", "channels"), BLOCKS)
def test_block_has_the_gradients_of_torchvisions(stride: int, expand_ratio: int, channels: int, side: int) -> None:
    torch.manual_seed(4)
    theirs = TheirBlock(16, channels, stride, expand_ratio).double()
    ours = InvertedResidual(16, channels, stride, expand_ratio).double().to(memory_format=torch.channels_last)
    ours.load_state_dict(theirs.state_dict())
    assert_same(outcome(lambda x: call_layers(ours, x), ours, side), outcome(theirs, theirs, side))


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_dilated_block_has_the_gradients_of_torchvisions(side: int) -> None:
    torch.manual_seed(4)
    theirs = TheirBlock(16, 16, 1, 6).double()
    theirs.conv[1][0].dilation = theirs.conv[1][0].padding = (2, 2)
    ours = InvertedResidual(16, 16, 1, 6, dilation=2).double().to(memory_format=torch.channels_last)
    ours.load_state_dict(theirs.state_dict())
    assert_same(outcome(lambda x: call_layers(ours, x), ours, side), outcome(theirs, theirs, side))


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_block_with_tensorflows_padding(side: int) -> None:
    """The layers as they are, which are compared with Keras elsewhere."""
    torch.manual_seed(4)
    block = InvertedResidual(16, 24, 2, 6, TENSORFLOW).double()
    plain = copy.deepcopy(block)
    assert_same(outcome(lambda x: call_layers(block, x), block, side), outcome(plain, plain, side))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (1, 2), (4, 4), (5, 7)])
@pytest.mark.parametrize(("stride", "expand_ratio", "channels"), BLOCKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_block_is_as_precise_as_the_layers(
    dtype: torch.dtype, stride: int, expand_ratio: int, channels: int, height: int, width: int
) -> None:
    """Values and gradients, against double precision; maps that are not square among them."""
    torch.manual_seed(4)
    exact = InvertedResidual(16, channels, stride, expand_ratio).double().to(memory_format=torch.channels_last)
    images = torch.randn(64, 16, height, width).contiguous(memory_format=torch.channels_last)
    found = []
    for form in (None, call_layers, lambda block, x: block(x)):
        block = copy.deepcopy(exact).to(torch.float32 if form else torch.float64)
        x = (images.to(dtype) if form else images.to(dtype).double()).requires_grad_()
        with torch.autocast("cpu", dtype, enabled=form is not None and dtype == torch.bfloat16):
            y = form(block, x) if form else block(x)
        directions = torch.randn(y.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        weights = [weight for weight in block.parameters() if weight.ndim > 1]
        gradients = torch.autograd.grad((y.double() * directions).sum(), [x, *weights])
        found.append([value.double() for value in (y, *gradients, *block.buffers())])
    for right, ours, plain in zip(*found, strict=True):
        assert (ours - right).norm() <= 2 * (plain - right).norm() + 1e-5 * right.norm()


@pytest.mark.skipif(not has_fused_convolution(torch.device("cpu"), torch.float32), reason="needs oneDNN")
def test_training_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 32 pixels for the last blocks, with the sizes of maps as they are."""
    called: list[int] = []
    monkeypatch.setattr(recomputing, "call_layers", lambda layer, x: called.append(x.shape[2]) or layer(x))
    network = MobileNetV2(3, 0.35).to(memory_format=torch.channels_last)
    recomputing.Recomputing(network)(torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last))
    assert called == [8] * 2 + [4] * 3 + [2] * 7 + [1] * 4


@pytest.mark.parametrize("momentum", [0.01, 1.0])
def test_statistics_move_as_the_layer_says(momentum: float) -> None:
    torch.manual_seed(4)
    block = InvertedResidual(16, 24, 2, 6).double()
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum
    plain = copy.deepcopy(block)
    call_layers(block, maps(2))
    plain(maps(2))
    assert_same(list(block.buffers()), list(plain.buffers()))


def test_other_batch_norms_compute_themselves() -> None:
    """Those that take the images of all processes together."""
    block = InvertedResidual(16, 16, 1, 6).double()
    calls = []
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = SyncBatchNorm
            layer.register_forward_hook(lambda *given: calls.append(given[0]))
    call_layers(block.eval(), maps(2))
    assert len(calls) == 3


@pytest.mark.parametrize("side", [1, 2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_lie_in_memory_as_their_weights_do(dtype: torch.dtype, side: int) -> None:
    """torch's fused SGD takes the two for laid out alike, and DDP copies what is not."""
    block = InvertedResidual(16, 24, 2, 6).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        y = call_layers(block, maps(side).float())
    y.float().square().sum().backward()
    assert [name for name, weight in block.named_parameters() if weight.grad.stride() != weight.stride()] == []


def test_general_routines_are_left_to_large_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MobileNetV2(3, 0.35).to(memory_format=torch.channels_last)
    sides: list[int] = []
    for layer in network.features.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            layer.register_forward_hook(lambda layer, given, y: sides.append(y.shape[2]))
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    for block in network.features:
        x = call_layers(block, x)
    assert sides
    assert all(side**2 > LARGEST_PRODUCT for side in sides)


def test_the_gradient_of_what_a_relu6_gives_stays_as_it_is() -> None:
    """It may be needed elsewhere: here it is that of a sum, and so of both summands."""
    layers = MobileNetV2(3, 0.35).features[-1].to(memory_format=torch.channels_last)
    x = torch.randn(2, 112, 4, 4).contiguous(memory_format=torch.channels_last)
    summand = torch.zeros(2, 1280, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    given = torch.ones_like(summand)
    (call_layers(layers, x) + summand).backward(given)
    assert (given == 1).all()
    assert (summand.grad == 1).all()


def test_batch_norm_of_one_value_a_channel_is_refused() -> None:
    """As by torch, which could not divide by the number of the others."""
    block = InvertedResidual(16, 16, 1, 6)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        call_layers(block, torch.ones(1, 16, 1, 1))
    assert all(buffer.isfinite().all() for buffer in block.buffers())
