# SPDX-License-Identifier: Apache-2.0
"""Whole networks of TensorFlow Lite and ONNX, and what is refused because it is another network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_networks import calm, randomize, torchvision_network
from keras_networks import LARGEST_ERROR, converted, error_between, keras, random_pixels
from tflite_models import run_tflite
from torch import nn
from whole_networks import NetworkModel, export_onnx

from converting.source_networks import read_network
from model import TENSORFLOW, MobileNetV2

layers = keras.layers


@pytest.fixture(scope="module")
def padded() -> MobileNetV2:
    return calm(randomize(MobileNetV2(5, 0.35, definition=TENSORFLOW)))


@torch.no_grad()
@pytest.mark.parametrize("size", [96, 97])
def test_a_whole_tflite_gives_the_logits_of_the_interpreter(padded: MobileNetV2, size: int, tmp_path: Path) -> None:
    path, images = tmp_path / "network.tflite", random_pixels(size)[:1]
    path.write_bytes(NetworkModel(padded, size).content())
    ours, facts = converted(path)
    expected = torch.from_numpy(run_tflite(path.read_bytes(), np.ascontiguousarray(images.permute(0, 2, 3, 1))))
    assert error_between(ours(images), expected) < LARGEST_ERROR
    assert (facts.model_padding, facts.image_size) == ("same", size)


def test_int8_weights_are_exactly_the_numbers_that_they_stand_for(padded: MobileNetV2, tmp_path: Path) -> None:
    path, model = tmp_path / "network.tflite", NetworkModel(padded, 96, has_int8=True)
    path.write_bytes(model.content())
    ours, facts = converted(path)
    weights = [module.weight for module in ours.modules() if isinstance(module, nn.Conv2d)]
    assert len(weights) == len(model.stored) == 52
    assert all(torch.equal(weight, stored) for weight, stored in zip(weights, model.stored, strict=True))
    assert ["The weights of the file were int8" in note for note in facts.notes] == [True]


@torch.no_grad()
@pytest.mark.parametrize("size", [64, 97])
@pytest.mark.parametrize("keeps_batch_norm", [True, False])
def test_a_whole_onnx_gives_the_logits_of_torchvision(keeps_batch_norm: bool, size: int, tmp_path: Path) -> None:
    network, images = calm(torchvision_network()), random_pixels(size)
    ours, facts = converted(export_onnx(network, tmp_path / "network.onnx", size, keeps_batch_norm))
    assert error_between(ours(images), network(images)) < LARGEST_ERROR
    assert facts.image_size == size
    assert facts.model_padding == ("symmetric" if size == 64 else None)  # at 97 TensorFlow's is the same
    assert facts.model_batch_norm_eps == (1e-5 if keeps_batch_norm else None)
    assert any("--padding same" in note for note in facts.notes) == (size == 97)


@torch.no_grad()
@pytest.mark.parametrize("size", [96, 97])
@pytest.mark.parametrize("opset", [11, 17])
def test_padding_that_torch_works_out_for_a_fixed_size(
    padded: MobileNetV2, opset: int, size: int, tmp_path: Path
) -> None:
    images = random_pixels(size)
    ours, facts = converted(export_onnx(padded, tmp_path / "network.onnx", size, opset=opset))
    assert error_between(ours(images), padded(images)) < LARGEST_ERROR
    assert (facts.model_padding, facts.image_size) == ("same" if size == 96 else None, size)  # at 97 both are alike


@pytest.mark.parametrize("opset", [11, 17])
def test_padding_that_torch_works_out_when_it_runs_is_refused(padded: MobileNetV2, opset: int, tmp_path: Path) -> None:
    path = export_onnx(padded, tmp_path / "network.onnx", 96, opset=opset, is_fixed=False)
    with pytest.raises(ValueError, match=r"worked out from the size .* when it runs; export it with a fixed size"):
        read_network(path)


def test_another_padding_in_onnx_is_refused(tmp_path: Path) -> None:
    network = torchvision_network()
    network.features[2].conv[1][0].padding = (0, 0)
    message = r"the file has convolution \S+ \[48, 1, 3, 3\] with stride 2 with the padding \(0, 0, 0, 0\) where the"
    with pytest.raises(ValueError, match=message):
        read_network(export_onnx(network, tmp_path / "network.onnx", 64))
