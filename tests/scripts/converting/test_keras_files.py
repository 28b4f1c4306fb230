# SPDX-License-Identifier: Apache-2.0
"""Keras' own networks, saved by Keras and converted, beside what Keras computes with them."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_networks import (
    LARGEST_ERROR,
    check_conversion,
    converted,
    error_between,
    keras,
    keras_network,
    outputs_of,
    random_pixels,
    randomize,
    save,
)

from converting.facts import Facts

layers = keras.layers
WIDTHS, SIZES = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4), (96, 128, 160, 192, 224, 97, 225)
KINDS = ("h5", "keras", "weights.h5", "legacy.h5")
# Each width, each size and each kind at least once; `pytest --every-size` takes every pair in both kinds of models.
FEW = [
    *((0.35, 96, "h5"), (0.35, 225, "keras"), (0.5, 128, "weights.h5"), (0.75, 160, "legacy.h5"), (1.0, 97, "h5")),
    *((1.0, 224, "keras"), (1.3, 192, "h5"), (1.4, 97, "keras"), (1.4, 96, "weights.h5")),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        every = [(width, size, kind) for width in WIDTHS for size in SIZES for kind in ("h5", "keras")]
        chosen = every if metafunc.config.getoption("--every-size") else FEW
        metafunc.parametrize(("width", "size", "kind"), chosen)


def test_whole_networks_give_the_logits_of_keras(width: float, size: int, kind: str, tmp_path: Path) -> None:
    facts = check_conversion(keras_network(size, width), tmp_path / f"network.{kind}", size)
    assert (facts.model_padding, facts.model_batch_norm_eps) == ("same", 1e-3)
    assert facts.image_size == (size if kind in ("h5", "keras") else None)
    assert facts.model_mean_parameters is facts.model_std_parameters is None


def test_the_few_pairs_have_every_width_size_and_kind() -> None:
    assert [set(values) for values in zip(*FEW, strict=True)] == [set(WIDTHS), set(SIZES), set(KINDS)]


# A network inside of others, with another classifier


def backbone(size: int = 96, **options: Any) -> keras.Model:
    options = {"alpha": 0.35, "weights": None, "include_top": False} | options
    return keras.applications.MobileNetV2((size, size, 3), **options)


def adapted() -> keras.Layer:
    """Which has measured mean and deviation on images, here of the values 100 and 140, and keeps them as weights."""
    layer = layers.Normalization()
    with warnings.catch_warnings(action="ignore"):  # of numpy, about how Keras asks torch for arrays
        layer.adapt(np.full((2, 1, 1, 3), [[[[100.0]]], [[[140.0]]]], np.float32))
    return layer


# What is done with pixels from 0 to 255, the mean and deviation of config.py that say the same, and a kind of file.
BEFORE = {
    "preprocess_input": (lambda x: keras.applications.mobilenet_v2.preprocess_input(x), 0.5, 0.5, "h5"),
    "preprocess_input, .keras": (lambda x: keras.applications.mobilenet_v2.preprocess_input(x), 0.5, 0.5, "keras"),
    "ImageNet's": (
        lambda x: keras.applications.imagenet_utils.preprocess_input(x, mode="torch"),
        *([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], "keras"),
    ),
    "Normalization": (lambda x: adapted()(x), 120 / 255, 20 / 255, "keras"),
    "both": (
        lambda x: layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.06])(layers.Rescaling(1 / 255)(x)),
        *([0.4, 0.5, 0.6], [0.2, 0.05**0.5, 0.06**0.5], "h5"),
    ),
}


def tutorial(before: Any, classes: int = 4, activation: str | None = None, **options: Any) -> keras.Model:
    """As Keras' and TensorFlow's guides to fine-tuning build it, in a Sequential of its own."""
    pixels = keras.Input((96, 96, 3))
    value = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)])(pixels)
    value = backbone(**options)(before(value), training=False)
    if "pooling" not in options:
        value = layers.GlobalAveragePooling2D()(value)
    inner = keras.Model(pixels, layers.Dense(classes, activation=activation)(layers.Dropout(0.2)(value)))
    return randomize(keras.Sequential([keras.Input((96, 96, 3)), inner]))


def check_pixels(network: keras.Model, path: Path) -> Facts:
    """The network takes pixels; ours takes what mean and deviation make of them."""
    ours, facts = converted(save(network, path))
    pixels = random_pixels(96, 0, 255)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (facts.model_mean_parameters, facts.model_std_parameters)
    )
    with torch.no_grad():
        logits = ours((pixels / 255 - mean) / std)
    assert error_between(logits, outputs_of(network, pixels)) < LARGEST_ERROR
    return facts


@pytest.mark.parametrize(("before", "mean", "std", "ending"), BEFORE.values(), ids=BEFORE.keys())
def test_a_backbone_inside_of_other_models(before: Any, mean: Any, std: Any, ending: str, tmp_path: Path) -> None:
    facts = check_pixels(tutorial(before), tmp_path / f"network.{ending}")
    assert facts.image_size == 96
    assert facts.model_mean_parameters == pytest.approx(np.broadcast_to(mean, 3), rel=1e-5)
    assert facts.model_std_parameters == pytest.approx(np.broadcast_to(std, 3), rel=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_what_makes_probabilities_is_left_to_the_scripts(activation: str, tmp_path: Path) -> None:
    network = tutorial(layers.Rescaling(1 / 127.5, offset=-1), 3, activation, pooling="avg")
    ours, facts = converted(save(network, tmp_path / "network.h5"))
    pixels = random_pixels(96, 0, 255)
    expected = outputs_of(network, pixels)
    with torch.no_grad():
        logits = ours(pixels / 127.5 - 1)
    functions = {"sigmoid": torch.sigmoid, "softmax": lambda x: torch.softmax(x, 1)}
    assert error_between(functions[activation](logits), expected) < LARGEST_ERROR
    assert ["Each class has a sigmoid" in note for note in facts.notes] == [True] * (activation == "sigmoid")


def test_one_output_becomes_two_classes(tmp_path: Path) -> None:
    """sigmoid(x) is the second probability of softmax(0, x)."""
    network = tutorial(layers.Rescaling(1 / 127.5, offset=-1), 1, "sigmoid")
    ours, facts = converted(save(network, tmp_path / "network.keras"))
    pixels = random_pixels(96, 0, 255)
    with torch.no_grad():
        logits = ours(pixels / 127.5 - 1)
    assert (logits[:, 0] == 0).all()
    assert error_between(torch.softmax(logits, 1)[:, 1:], outputs_of(network, pixels)) < LARGEST_ERROR
    assert facts.notes[-1].startswith("Its one output became two classes")


def test_images_that_are_no_squares(tmp_path: Path) -> None:
    options = {"alpha": 0.35, "weights": None, "classes": 3, "classifier_activation": None}
    network = randomize(keras.applications.MobileNetV2((97, 64, 3), **options))
    ours, facts = converted(save(network, tmp_path / "network.h5"))
    images = random_pixels(97, width=64)
    with torch.no_grad():
        assert error_between(ours(images), outputs_of(network, images)) < LARGEST_ERROR
    assert facts.image_size == 97
    assert facts.notes == ("Its images are 97 x 64; those of config.py are squares, here of that side.",)


def test_a_network_of_any_size_pads_as_for_even_ones(tmp_path: Path) -> None:
    base = keras_network(None, include_top=False, pooling="avg")
    network = randomize(keras.Model(base.input, layers.Dense(3)(base.output)))
    _, facts = converted(save(network, tmp_path / "network.keras"))
    assert (facts.model_padding, facts.image_size) == ("same", None)
    assert "Its image size is open" in facts.notes[-1]


@pytest.mark.parametrize("eps", [0.0, 5.0])
def test_an_eps_that_config_cannot_have_is_refused(eps: float, tmp_path: Path) -> None:
    network = keras_network()
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.epsilon = eps
    with pytest.raises(ValueError, match=f"has model_batch_norm_eps = {eps}; config.py takes a number from 1e-12 to 1"):
        converted(save(network, tmp_path / "network.keras"))
