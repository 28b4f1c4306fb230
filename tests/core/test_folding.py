# SPDX-License-Identifier: Apache-2.0
"""The faster forms give the logits of torchvision."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
import torchvision
from foreign_networks import calm, randomize
from random_networks import assert_equal_tensors, network_with_statistics, random_images
from torch import Tensor, nn

from core import folding
from core.folding import OneGraph, as_one_graph, choose_form, folded
from model import TENSORFLOW, TORCHVISION, Definition, MobileNetV2, StridedConv2d


@torch.inference_mode()
@pytest.mark.parametrize("size", [(32, 32), (224, 224), (97, 64)])
def test_folded_network_gives_the_logits_of_torchvision(size: tuple[int, int]) -> None:
    network, images = network_with_statistics(), random_images(*size)
    theirs = torchvision.models.mobilenet_v2()
    theirs.load_state_dict(network.state_dict())
    expected = theirs.eval()(images)
    assert expected.std() > 1e-3
    copied = folded(network)
    for count in (2, 1):  # the last batch is smaller
        torch.testing.assert_close(copied(images[:count]), expected[:count], rtol=0, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copied.modules())


@torch.inference_mode()
@pytest.mark.parametrize("definition", [TORCHVISION, TENSORFLOW])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_folded_network_keeps_its_dilations(output_stride: int, definition: Definition) -> None:
    """The layers as they are, which are compared with torchvision's elsewhere."""
    network = MobileNetV2(definition=definition, output_stride=output_stride).to(memory_format=torch.channels_last)
    network.load_state_dict(network_with_statistics(definition).state_dict())
    images = random_images(97, 64)
    expected = network.eval()(images)
    assert_near(folded(network)(images), expected)
    strided = network_with_statistics(definition).eval()(images)
    assert (strided - expected).abs().max() > 1e-3 * expected.abs().max()  # so that the line above can fail


@torch.inference_mode()
def test_folded_network_in_bfloat16_stays_near() -> None:
    network, images = network_with_statistics(), random_images(64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        logits = folded(network, torch.bfloat16)(images).float()
    expected = network.eval()(images)
    assert (logits - expected).norm() < 0.1 * expected.norm()


@torch.inference_mode()
@pytest.mark.parametrize("size", [64, 224])
def test_one_graph_gives_the_logits_of_torchvision(size: int) -> None:
    network = network_with_statistics()
    theirs = torchvision.models.mobilenet_v2()
    theirs.load_state_dict(network.state_dict())
    graph = as_one_graph(network, size)
    for seed in range(3):
        images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(graph(images), theirs.eval()(images), rtol=0, atol=1e-4)


@pytest.fixture
def threads() -> Iterator[int]:
    """How many torch has, again after the test."""
    number = torch.get_num_threads()
    yield number
    torch.set_num_threads(number)


@torch.inference_mode()
def test_one_graph_takes_images_in_pieces(threads: int) -> None:
    """The last piece is filled up; and torch may get other threads between two batches."""
    network = network_with_statistics()
    theirs = torchvision.models.mobilenet_v2()
    theirs.load_state_dict(network.state_dict())
    graph = as_one_graph(network, 64, piece=4)
    for count, number in ((8, threads), (9, threads + 1), (3, threads)):
        torch.set_num_threads(number)
        images = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
        torch.testing.assert_close(graph(images), theirs.eval()(images), rtol=0, atol=1e-4)
    assert list(graph.graphs) == [threads, threads + 1]


def test_many_images_are_scored_by_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches by their pixels, one at a time by their number."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    network = MobileNetV2(3, 0.35)
    monkeypatch.setattr(folding, "MANY_PIXELS", 100 * 64 * 64)
    monkeypatch.setattr(folding, "MAP_BYTES", 5 * 64 * 64 * 4)
    pieces = []
    for count, batch_size in ((99, 8), (100, 8), (100, 3), (199, 1), (200, 1)):
        form = choose_form(network, 64, torch.float32, count, batch_size)
        pieces.append(len(form.example) if isinstance(form, OneGraph) else None)
    assert pieces == [None, 4, 3, None, 1]


@pytest.mark.parametrize(
    ("batch_size", "in_float32", "in_bfloat16"), [(1, 1, 1), (6, 2, 3), (32, 2, 4), (50, 2, 4), (53, 2, 4), (256, 2, 4)]
)
def test_pieces_divide_a_batch(
    batch_size: int, in_float32: int, in_bfloat16: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 224 pixels 2 and 4 images fit with two threads, or more than half of it; the last piece may be filled up."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    piece_of = partial(folding.choose_piece, 224, batch_size=batch_size)
    assert (piece_of(torch.float32), piece_of(torch.bfloat16)) == (in_float32, in_bfloat16)
    assert folding.choose_piece(1000, torch.float32, batch_size) == 1


@torch.inference_mode()
def test_one_graph_in_bfloat16_stays_near() -> None:
    network, images = network_with_statistics(), random_images(64, 64)[:1]
    graph = as_one_graph(network, 64, torch.bfloat16)
    expected = network.eval()(images)
    for enabled in (False, True):  # inference.py calls it under autocast
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert (graph(images) - expected).norm() < 0.1 * expected.norm()


def is_fused(network: nn.Module) -> bool:
    return any(isinstance(module, folding.FusedConvolution) for module in network.modules())


def without_activation(layer: folding.FusedConvolution, x: Tensor) -> Tensor:
    return layer.convolution(x.to(layer.convolution.weight.dtype))


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("build", [network_with_statistics, partial(MobileNetV2, 10, 0.35)])
def test_right_fused_convolutions_are_used_and_wrong_ones_are_not(
    build: Callable[[], nn.Module],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not folding.has_fused_convolution(torch.device("cpu"), dtype):
        pytest.skip("this processor has no such convolution")
    folding.announce_other_logits.cache_clear()
    network = build()
    assert is_fused(folded(network, dtype))
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(folding.FusedConvolution, "forward", without_activation)
    plain = folded(network, dtype)
    assert not is_fused(plain)
    folded(network, dtype)  # says nothing more
    assert capsys.readouterr().out == (
        f"FusedConvolution gives other logits than the network here (in {dtype}); scoring without it, which is "
        "slower.\n"
    )
    images = random_images(64, 64)
    torch.testing.assert_close(plain(images), network.eval()(images), rtol=0, atol=1e-4)


def test_weights_are_packed_for_the_first_images_not_for_the_probe() -> None:
    copied = folded(network_with_statistics())
    assert all(layer.packed is None for layer in copied.modules() if isinstance(layer, folding.FusedConvolution))


def test_network_that_diverged_is_folded_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    network = MobileNetV2(3, 0.35)
    nn.init.constant_(network.classifier[1].bias, torch.nan)
    assert is_fused(folded(network)) == folding.has_fused_convolution(torch.device("cpu"), torch.float32)
    assert capsys.readouterr().out == ""


def test_network_that_makes_much_of_rounding_is_folded_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    """Near a million float32 has steps of a sixteenth: the network itself is off by half of one, its fold is not."""
    folding.announce_other_logits.cache_clear()
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU6()).eval()
    nn.init.constant_(network[0].bias, 1e6)
    nn.init.constant_(network[1].running_mean, 1e6)
    images = random_images(32, 32)
    expected = network.double()(images.double()).float()
    network.float()
    assert (network(images) - expected).abs().max() > 1e-3
    torch.testing.assert_close(folded(network)(images), expected, rtol=0, atol=1e-4)
    assert capsys.readouterr().out == ""


def test_arms_library_has_no_fused_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile leaves them out there too: torch/_inductor/fx_passes/mkldnn_fusion.py."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_acl_supported", lambda: True)
    assert not folding.has_fused_convolution(torch.device("cpu"), torch.float32)
    assert not is_fused(folded(MobileNetV2(3, 0.35)))


def test_wrong_graph_is_refused_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folding.announce_other_logits.cache_clear()
    freeze = torch.jit.freeze

    def freeze_and_spoil(traced: torch.jit.ScriptModule) -> Callable[[Tensor], Tensor]:
        graph = freeze(traced)
        return lambda images: 1.001 * graph(images)

    monkeypatch.setattr(torch.jit, "freeze", freeze_and_spoil)
    with pytest.raises(RuntimeError, match="other logits"):
        as_one_graph(MobileNetV2(3, 0.35), 64)
    assert capsys.readouterr().out.startswith("as_one_graph gives other logits than the network here")


@pytest.mark.parametrize("copy_of", [folded, lambda network: as_one_graph(network, 64)])
def test_folding_leaves_the_network_as_it_is(copy_of: Callable[[MobileNetV2], object]) -> None:
    network = network_with_statistics().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copy_of(network)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert_equal_tensors(network.state_dict(), before)


# With TensorFlow's padding, which the routines of the libraries do not have


def padded_network() -> nn.Module:
    """One whose logits tell the paddings apart; that they are Keras' is a fact of the tests of the converter."""
    network = calm(randomize(MobileNetV2(7, 0.35, definition=TENSORFLOW)))
    return network.to(memory_format=torch.channels_last)


def assert_near(logits: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """`tolerance`: as a share of the largest; in float32 that of the probe."""
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def pads_same(network: nn.Module) -> list[bool]:
    return [layer.pads_same for layer in network.modules() if isinstance(layer, StridedConv2d)]


@torch.inference_mode()
@pytest.mark.parametrize("size", [(32, 32), (33, 33), (50, 50), (97, 97), (224, 224), (64, 97), (97, 64), (46, 66)])
def test_folded_network_pads_as_tensorflow(size: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    folding.announce_other_logits.cache_clear()
    network, images = padded_network(), random_images(*size).to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = network(images)
    copied = folded(network)
    assert_near(copied(images), expected)
    assert_near(copied(images.contiguous()), expected)
    assert is_fused(copied) == folding.has_fused_convolution(torch.device("cpu"), torch.float32)
    strided = [layer for layer in copied.modules() if isinstance(layer, StridedConv2d)]
    assert [(layer.pads_same, layer.padding) for layer in strided] == [(False, (1, 1))] * 5
    assert capsys.readouterr().out == ""  # the fast form is used
    assert pads_same(network) == [True] * 5
    assert_equal_tensors(network.state_dict(), before)
    assert torch.equal(network(images), expected)


@torch.inference_mode()
def test_symmetric_padding_would_give_other_logits() -> None:
    """So that the tests above can fail."""
    network, images = padded_network(), random_images(64, 64)
    expected = network(images)
    for layer in network.modules():
        if isinstance(layer, StridedConv2d):
            layer.pads_same, layer.padding = False, (1, 1)
    assert (network(images) - expected).norm() > 0.3 * expected.norm()


@torch.inference_mode()
@pytest.mark.parametrize("size", [33, 50, 97, 224])
def test_one_graph_pads_as_tensorflow(size: int) -> None:
    network, images = padded_network(), random_images(size, size)[:1]
    expected = network(images)
    for graph in (as_one_graph(network, size), folded(network)):
        assert_near(graph(images), expected)
    assert pads_same(network) == [True] * 5


@torch.inference_mode()
@pytest.mark.parametrize("size", [(64, 64), (97, 97)])
def test_padding_of_tensorflow_in_bfloat16_stays_near(size: tuple[int, int]) -> None:
    network, images = padded_network(), random_images(*size)[:1]
    expected = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = folded(network, torch.bfloat16)(images).float()
    graphs = [as_one_graph(network, size[0], torch.bfloat16, piece)(images) for piece in (1, 4)]
    for computed in (logits, *graphs):
        assert (computed - expected).norm() < 0.2 * expected.norm()  # another padding: 0.3 and more
