# SPDX-License-Identifier: Apache-2.0
"""The form that trains with half the memory has the gradients of torchvision's blocks and network."""

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from random_networks import network_with_statistics, random_images
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual as TheirBlock

from core import recomputing
from core.frozen_blocks import TrainedPart
from core.processes import SyncBatchNorm
from core.recomputing import Recomputing, list_parts
from model import TENSORFLOW, TORCHVISION, Definition, InvertedResidual, MobileNetV2

# In bfloat16 more pixels, so that the few values that rounding moves over a bound of ReLU6 do not count for much.
CASES = [(torch.float32, 12, 8), (torch.float32, 11, 9), (torch.bfloat16, 40, 38), (torch.bfloat16, 37, 39)]
needs_routines = pytest.mark.usefixtures("routines")


@pytest.fixture(autouse=True)
def _maps_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputing, "SMALLEST_MAP", 0)


@pytest.fixture
def _clean_cache() -> None:
    recomputing.gives_right_gradients.cache_clear()


def block_with_statistics(
    stride: int, expand_ratio: int, definition: Definition, dilation: int = 1
) -> InvertedResidual:
    torch.manual_seed(4)
    block = InvertedResidual(16, 16, stride, expand_ratio, definition, dilation).to(memory_format=torch.channels_last)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return block


def maps(height: int, width: int) -> Tensor:
    """With means that are not 0."""
    values = torch.randn(4, 16, height, width, generator=torch.Generator().manual_seed(5))
    values += torch.linspace(-1, 1, 16)[:, None, None]
    return values.contiguous(memory_format=torch.channels_last)


def outcome(block: Callable[[Tensor], Tensor], weights: nn.Module, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """What a block gives, the gradients of what it reads and of its weights, and its statistics, in float64."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        y = block(x.to(dtype))
    directions = torch.randn(y.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    gradients = torch.autograd.grad((y.double() * directions).sum(), [x, *weights.parameters()])
    return [value.double() for value in (y, *gradients, *weights.buffers())]


def assert_as_precise(block: InvertedResidual, expected: list[Tensor], x: Tensor, dtype: torch.dtype) -> None:
    """Float32 to five digits, bfloat16 to eight bits or as near to double precision as the block called as it is."""
    plain = copy.deepcopy(block)
    found, theirs = outcome(list_parts([block])[0], block, x, dtype), outcome(plain, plain, x, dtype)
    for one, other, exact in zip(found, theirs, expected, strict=True):
        if dtype == torch.float32:
            assert (one - exact).norm() <= 1e-5 * exact.norm()
        else:
            assert (one - exact).norm() <= 1.5 * (other - exact).norm() + 2**-8 * exact.norm()


@needs_routines
@pytest.mark.parametrize(("stride", "expand_ratio"), [(1, 1), (1, 6), (2, 6)])
@pytest.mark.parametrize(("dtype", "height", "width"), CASES)
def test_block_has_the_gradients_of_torchvisions(
    stride: int, expand_ratio: int, dtype: torch.dtype, height: int, width: int
) -> None:
    ours = block_with_statistics(stride, expand_ratio, TORCHVISION)
    theirs = TheirBlock(16, 16, stride, expand_ratio)
    theirs.load_state_dict(ours.state_dict())
    expected = outcome(theirs.double(), theirs, maps(height, width).double(), torch.float64)
    assert_as_precise(ours, expected, maps(height, width), dtype)


@needs_routines
@pytest.mark.parametrize(("dtype", "height", "width"), [*CASES, (torch.float32, 11, 8), (torch.bfloat16, 38, 39)])
def test_block_with_tensorflows_padding(dtype: torch.dtype, height: int, width: int) -> None:
    """The layers as they are, which are compared with Keras elsewhere."""
    block = block_with_statistics(2, 6, TENSORFLOW)
    plain = copy.deepcopy(block).double()
    expected = outcome(plain, plain, maps(height, width).double(), torch.float64)
    assert_as_precise(block, expected, maps(height, width), dtype)


@needs_routines
@pytest.mark.parametrize(("dilation", "dtype", "height", "width"), [(2, *CASES[0]), (4, *CASES[1]), (2, *CASES[2])])
def test_dilated_block_has_the_gradients_of_torchvisions(
    dilation: int, dtype: torch.dtype, height: int, width: int
) -> None:
    ours = block_with_statistics(1, 6, TORCHVISION, dilation)
    theirs = TheirBlock(16, 16, 1, 6)
    theirs.load_state_dict(ours.state_dict())
    theirs.conv[1][0].dilation = theirs.conv[1][0].padding = (dilation, dilation)
    expected = outcome(theirs.double(), theirs, maps(height, width).double(), torch.float64)
    assert_as_precise(ours, expected, maps(height, width), dtype)


@needs_routines
@pytest.mark.parametrize("needs_gradient", [True, False])
def test_few_images_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch, needs_gradient: bool) -> None:
    """Four images in two pieces of three and one."""
    found = []
    for piece_bytes in (2**30, 3 * 12 * 8 * 96 * 4):
        monkeypatch.setattr(recomputing, "PIECE_BYTES", piece_bytes)
        block = block_with_statistics(1, 6, TORCHVISION)
        y = list_parts([block])[0](x := maps(12, 8).requires_grad_(needs_gradient))
        y.backward(maps(12, 8))
        found.append([y, *(weight.grad for weight in block.parameters()), *block.buffers()])
        found[-1] += [x.grad] if needs_gradient else []
    for whole, summed in zip(*found, strict=True):
        torch.testing.assert_close(summed, whole, rtol=1e-4, atol=1e-4)


@needs_routines
@pytest.mark.parametrize("blocks", [0, 1, 2, 7, 18, 19])
def test_network_and_its_last_blocks_give_the_logits_of_torchvision(blocks: int) -> None:
    network, images = network_with_statistics().train(), random_images(64, 96)
    assert isinstance(network, MobileNetV2)
    theirs = torchvision.models.mobilenet_v2(dropout=0.0)
    theirs.load_state_dict(network.state_dict())
    network.classifier[0].p = 0.0
    x = theirs.features[:blocks](images)
    expected = theirs.classifier(theirs.features[blocks:](x).mean((2, 3)))
    x = x.detach() if blocks < 19 else x.detach().mean((2, 3))
    form = Recomputing(TrainedPart(network, blocks) if blocks else network).train()
    logits = form(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3 * expected.abs().max().item())
    moved = {name: value for name, value in network.state_dict().items() if name.startswith("features.17")}
    for name, value in moved.items() if blocks <= 17 else ():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-3, atol=1e-4)


@needs_routines
@pytest.mark.parametrize("width", [0.1, 0.25, 0.35, 1.4])
def test_networks_of_all_widths(width: float) -> None:
    """In narrow ones the first block has a skip."""
    torch.manual_seed(0)
    network, images = MobileNetV2(3, width, dropout=0.0), random_images(64, 64)
    expected = copy.deepcopy(network)(images)
    torch.testing.assert_close(Recomputing(network)(images), expected, rtol=0, atol=1e-3 * expected.abs().max().item())


@needs_routines
def test_channels_that_cancel_out_give_numbers() -> None:
    """Equal but for a thousandth, with kernels of sum 0: all but nothing is left of the variance."""
    block = block_with_statistics(1, 6, TORCHVISION)
    with torch.no_grad():
        kernel = next(block.parameters())
        kernel -= kernel.mean(1, keepdim=True)
    x = (10 * maps(12, 8)[:, :1] + 1e-3 * maps(12, 8)).contiguous(memory_format=torch.channels_last)
    gradients = torch.autograd.grad(list_parts([block])[0](x).cos().sum(), list(block.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(buffer.isfinite().all() for buffer in block.buffers())


@needs_routines
def test_half_of_what_autograd_keeps_is_not_kept() -> None:
    """Of a block with 96 hidden channels: 96 + 16 maps of the size of its input in place of 4 x 96 + 2 x 16."""
    block = block_with_statistics(1, 6, TORCHVISION)
    kept = []
    for form in (block, list_parts([block])[0]):
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            form(maps(32, 32).requires_grad_())
        kept.append(sum(sizes.values()) / (4 * 32 * 32))
    assert kept[0] > 4 * 96
    assert kept[1] < 96 + 3 * 16


@needs_routines
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_lie_in_memory_as_their_weights_do(dtype: torch.dtype) -> None:
    """torch's fused SGD takes the two for laid out alike, and DDP copies what is not."""
    network = MobileNetV2(3, 0.35).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        logits = Recomputing(network)(random_images(64, 64).contiguous(memory_format=torch.channels_last))
    logits.float().square().sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad.stride() != weight.stride()] == []


@needs_routines
def test_weights_that_are_no_numbers_show_in_the_gradient() -> None:
    """oneDNN's ReLU6 makes 0 of NaN."""
    block = block_with_statistics(1, 6, TORCHVISION)
    with torch.no_grad():
        next(block.parameters())[0] = torch.nan
    part = list_parts([block])[0]
    gradients = torch.autograd.grad(part(maps(8, 8)).square().sum(), list(block.parameters()))
    assert not all(gradient.isfinite().all() for gradient in gradients)


@needs_routines
def test_where_it_is_used() -> None:
    network = MobileNetV2(3, 0.35)
    assert isinstance(recomputing.recomputing(network, torch.float32), Recomputing)
    elsewhere = MobileNetV2(3, 0.35).to("meta")
    assert recomputing.recomputing(elsewhere, torch.float32) is elsewhere
    synchronized = MobileNetV2(3, 0.35)
    for module in synchronized.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm
    assert recomputing.recomputing(synchronized, torch.float32) is synchronized


@needs_routines
@pytest.mark.parametrize(("side", "is_recomputed"), [(14, True), (13, False)])
def test_small_maps_are_kept(monkeypatch: pytest.MonkeyPatch, side: int, is_recomputed: bool) -> None:
    monkeypatch.setattr(recomputing, "SMALLEST_MAP", 14 * 14)
    block, x = block_with_statistics(1, 6, TORCHVISION), maps(side, side)
    expected = copy.deepcopy(block)(x)
    calls: list[Tensor] = []
    routine = recomputing.pointwise
    monkeypatch.setattr(recomputing, "pointwise", lambda *given: calls.append(given[0]) or routine(*given))
    y = list_parts([block])[0](x)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    assert bool(calls) == is_recomputed


@needs_routines
@pytest.mark.usefixtures("_clean_cache")
def test_wrong_routines_are_not_used(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    routine = recomputing.pointwise
    monkeypatch.setattr(recomputing, "pointwise", lambda *given: routine(*given).clamp(max=3.0))
    network = MobileNetV2(3, 0.35)
    try:
        assert recomputing.recomputing(network, torch.float32) is network
    finally:
        recomputing.gives_right_gradients.cache_clear()
    assert capsys.readouterr().out.startswith("Recomputing does not give the network's gradients here")


@needs_routines
def test_scoring_and_compiling_call_the_network_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MobileNetV2(3, 0.35)
    form, images = Recomputing(network), random_images(64, 64)
    monkeypatch.setattr(recomputing, "pointwise", None)
    torch.testing.assert_close(form.eval()(images), network(images), rtol=0, atol=0)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert form.train()(images).shape == (2, 3)
