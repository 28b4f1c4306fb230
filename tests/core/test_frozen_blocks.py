# SPDX-License-Identifier: Apache-2.0
"""A network cut after any of its blocks computes what torchvision's whole network does."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from conftest import ROOT, config_with
from random_networks import network_with_statistics, random_images

from core import folding, frozen_blocks
from core.folding import folded
from core.frozen_blocks import FrozenForm, FrozenPart, TrainedPart, output_shape
from core.settings import NUM_BLOCKS
from model import TENSORFLOW, MobileNetV2

CUTS = (1, 2, 7, 14, 18, 19)  # after the first convolution, ..., before the last one, before the classifier


def theirs_of(network: MobileNetV2) -> torch.nn.Module:
    theirs = torchvision.models.mobilenet_v2()
    theirs.load_state_dict(network.state_dict())
    return theirs.eval()


def test_there_are_as_many_blocks_as_torchvision_has() -> None:
    assert NUM_BLOCKS == len(torchvision.models.mobilenet_v2().features) == len(MobileNetV2().features)


@torch.inference_mode()
@pytest.mark.parametrize("blocks", CUTS)
def test_two_parts_are_the_network_of_torchvision(blocks: int) -> None:
    network, images = network_with_statistics(), random_images(96, 96)
    theirs = theirs_of(network)
    outputs = FrozenForm(network.train(), blocks, torch.float32)(images)
    expected = theirs.features[:blocks](images)
    if blocks == NUM_BLOCKS:
        expected = expected.mean((2, 3))
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    assert outputs.shape[1:] == output_shape(FrozenPart(network, blocks), 96)
    trained = TrainedPart(network, blocks).eval()
    for form in (trained, folded(trained, input_shape=outputs.shape[1:])):
        torch.testing.assert_close(form(outputs), theirs(images), rtol=0, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("blocks", CUTS)
@pytest.mark.parametrize("size", [(96, 64), (97, 75)])  # odd maps too, where TensorFlow pads at both ends
def test_maps_of_tensorflows_padding_are_the_right_way_up(blocks: int, size: tuple[int, int]) -> None:
    """That padding is computed with everything upside down."""
    network, images = network_with_statistics(definition=TENSORFLOW).eval(), random_images(*size)
    outputs = FrozenForm(network, blocks, torch.float32)(images)
    expected = FrozenPart(network, blocks)(images)  # the layers as they are, which are compared with Keras elsewhere
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    trained = folded(TrainedPart(network, blocks), input_shape=outputs.shape[1:])
    torch.testing.assert_close(trained(outputs), network(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("blocks", "shape"), [(1, (32, 112, 112)), (14, (96, 14, 14)), (18, (320, 7, 7)), (19, (1280,))]
)
def test_shapes_are_those_of_table_2(blocks: int, shape: tuple[int, ...]) -> None:
    assert output_shape(FrozenPart(MobileNetV2(), blocks), 224) == shape


def test_frozen_form_leaves_the_network_alone() -> None:
    network, images = network_with_statistics().train(), random_images(64, 64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outputs = FrozenForm(network, 14, torch.float32)(images)
    assert not outputs.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())


def test_frozen_form_in_bfloat16_stays_near() -> None:
    network, images = network_with_statistics(), random_images(64, 64)
    outputs = FrozenForm(network, 14, torch.bfloat16)(images)
    expected = FrozenForm(network, 14, torch.float32)(images)
    assert outputs.dtype == torch.float32
    assert 0 < (outputs - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize(("is_native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_frozen_blocks_take_bfloat16_where_the_processor_has_it(
    is_native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_blocks, "has_native_bfloat16", lambda: is_native)
    monkeypatch.setattr(frozen_blocks, "has_fused_convolution", lambda *_: True)
    choose = frozen_blocks.choose_frozen_dtype
    cpu = torch.device("cpu")
    assert choose(SimpleNamespace(precision="auto"), torch.float32, cpu) == dtype
    assert choose(SimpleNamespace(precision="float32"), torch.float32, cpu) == torch.float32


def test_native_bfloat16_is_what_the_processor_says() -> None:
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    assert folding.has_native_bfloat16() == ("avx512_bf16" in flags)


def test_blocks_of_a_new_network_are_not_frozen() -> None:
    config = config_with(frozen_blocks=14, __file__=str(ROOT / "config.py"))
    with pytest.raises(ValueError, match=r"^config.py line \d+: frozen_blocks = 14 .* \(line 50\) to trained ones$"):
        frozen_blocks.refuse_untrained(config, None)
    frozen_blocks.refuse_untrained(config, Path("samples/epoch_1.pth.tar"))
    config.pretrained_model_weights_path = "weights.pth"
    frozen_blocks.refuse_untrained(config, None)
