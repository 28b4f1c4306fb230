# SPDX-License-Identifier: Apache-2.0
"""Activation maps, against the logits and against torchvision's network."""

import hashlib
from pathlib import Path

import pytest
import torch
import torchvision
from conftest import config_with
from export_requests import MEAN, STD, normalised, pictures
from export_requests import trained_network as network_without_bias

from reporting.activation_maps import class_maps, open_viewer
from reporting.measurements import Measurement

SIZE = 96  # 3 x 3 places
USE = {
    **{"model_num_classes": 5, "model_width_mult": 0.35},
    **{"model_mean_parameters": MEAN, "model_std_parameters": STD},
}


def trained_network() -> torch.nn.Module:
    network = network_without_bias()
    torch.nn.init.normal_(network.classifier[1].bias)
    return network


def test_mean_of_a_map_is_the_logit() -> None:
    network, images = trained_network(), normalised(pictures(4, SIZE))
    with torch.inference_mode():
        logits, maps = class_maps(network, images)
        assert torch.allclose(logits, network(images), atol=1e-5)
    assert maps.shape == (4, 3, 3)
    assert torch.allclose(maps.mean((1, 2)), logits.amax(dim=1), atol=1e-5)
    assert maps.std() > 0.01


def test_a_place_is_what_torchvision_says_of_it_alone() -> None:
    network, images = trained_network(), normalised(pictures(1, SIZE))
    other = torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.35).eval()
    other.load_state_dict(network.state_dict())
    with torch.inference_mode():
        logits, maps = class_maps(network, images)
        place = other.classifier(other.features(images)[..., 2, 1])
    assert maps[0, 2, 1] == pytest.approx(place[0, logits.argmax()].item(), abs=1e-4)


def measurement(path: Path, sha256: str | None = None) -> Measurement:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "0" * 64
    return Measurement(str(path), sha256 or found, "0" * 64, "data", SIZE, False, 1, 0.0, "float32", "torch")


def test_viewer_answers_as_the_network(tmp_path: Path) -> None:
    network, path = trained_network(), tmp_path / "a.pth"
    torch.save({"state_dict": network.state_dict(), "class_names": list("abcde")}, path)
    config = config_with(**USE, image_size=SIZE)
    viewer, reason = open_viewer(config, measurement(path))
    assert reason == ""
    [image] = pictures(1, SIZE)
    with torch.inference_mode():
        expected = network(normalised(image[None])).softmax(dim=1)[0]
    answer = viewer.ask(image)
    assert answer.label == "abcde"[expected.argmax()]
    assert answer.probability == pytest.approx(expected.max().item(), abs=1e-5)


def test_weights_that_are_no_longer_those_give_no_maps(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    config = config_with(**USE)
    viewer, reason = open_viewer(config, measurement(path))
    assert viewer is None
    assert "cannot be used" in reason and "No such file" in reason
    torch.save({"state_dict": trained_network().state_dict()}, path)
    assert open_viewer(config, measurement(path, "1" * 64)) == (
        None,
        f"{path} has changed since test.py scored it, so there are no activation maps.",
    )
    config = config_with(**USE | {"model_num_classes": 8})
    viewer, reason = open_viewer(config, measurement(path))
    assert viewer is None
    assert "check model_width_mult and model_num_classes in config.py" in reason


def test_exported_files_give_no_maps(tmp_path: Path) -> None:
    viewer, reason = open_viewer(config_with(), measurement(tmp_path / "a.onnx"))
    assert viewer is None
    assert reason == "An exported file gives no feature map, so there are no activation maps."
