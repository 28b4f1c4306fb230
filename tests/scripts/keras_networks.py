# SPDX-License-Identifier: Apache-2.0
"""Keras' own networks with weights of their own, what they compute, and the files that Keras writes of them.

Keras takes its backend from the environment once, when it is imported: import it from here alone.
"""

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"KERAS_BACKEND": "torch", "KERAS_HOME": os.devnull}  # there it would read and write its settings

import h5py
import keras as keras
import numpy as np
import torch
from keras.src.legacy.saving import legacy_h5_format
from torch import Tensor

from converting.facts import Facts
from converting.layers import group_layers
from converting.networks import build_network
from converting.source_networks import read_network
from model import MobileNetV2

logging.getLogger("absl").setLevel(logging.ERROR)  # .h5 is legacy, it says each time


def keras_network(size: int | None = 96, width: float = 0.35, classes: int = 3, **options: Any) -> keras.Model:
    """Keras' MobileNetV2 with random weights; it gives logits."""
    options = {"classifier_activation": None} | options
    shape = (size, size, 3)
    return randomize(keras.applications.MobileNetV2(shape, alpha=width, weights=None, classes=classes, **options))


def randomize(network: keras.Model, seed: int = 0) -> keras.Model:
    """Give every weight and every statistic a value of its own, such that the signal stays of order 1.

    A block adds less to its input than it is, as in networks that were trained: others make rounding 20 times larger.
    """
    generator = np.random.default_rng(seed)
    for weight in network.weights:
        shape, name = tuple(weight.shape), weight.name
        if "kernel" in name:
            fan_in = np.prod(shape[:2]) if "depthwise" in weight.path and len(shape) == 4 else np.prod(shape[:-1])
            weight.assign(generator.standard_normal(shape) * (2 / fan_in) ** 0.5)
        elif name in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.5, 1.5, shape) * (0.5 if "project_BN/gamma" in weight.path else 1))
        elif name in ("beta", "bias", "moving_mean"):
            weight.assign(generator.standard_normal(shape) * 0.2)
    return network


def with_weights_of(ours: MobileNetV2, size: int, width: float) -> keras.Model:
    """Keras' network for 1,000 classes with the weights of ours."""
    network = keras_network(size, width, classes=1000)
    layers = [layer for layer in network.layers if layer.weights]
    for layer, theirs in zip(layers, group_layers(ours.state_dict()), strict=True):
        tensors = {name: tensor for name, tensor in theirs.tensors.items() if name != "num_batches_tracked"}
        weight = tensors["weight"]
        if weight.ndim == 4:
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            tensors["weight"] = weight.permute(2, 3, 0, 1) if is_depthwise else weight.permute(2, 3, 1, 0)
        elif weight.ndim == 2:
            tensors["weight"] = weight.T
        layer.set_weights([tensor.numpy() for tensor in tensors.values()])
    return network


def random_pixels(size: int, low: float = -1.0, high: float = 1.0, width: int | None = None) -> Tensor:
    """Two images [2, 3, S, S], as a network takes them."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand((2, 3, size, width or size), generator=generator) * (high - low) + low


@torch.no_grad()
def outputs_of(network: keras.Model, images: Tensor) -> Tensor:
    """What Keras computes of images [N, 3, H, W]."""
    return network(images.permute(0, 2, 3, 1).contiguous(), training=False).detach()


def save(network: keras.Model, path: Path) -> Path:
    """Write the kind of file that its name says: .keras, .h5, .weights.h5, or .legacy.h5 for weights as Keras 2."""
    with warnings.catch_warnings(action="ignore"):  # of numpy, about how Keras asks torch for arrays
        if path.name.endswith(".legacy.h5"):
            with h5py.File(path, "w") as file:
                legacy_h5_format.save_weights_to_hdf5_group(file, network)
        elif path.name.endswith(".weights.h5"):
            network.save_weights(path)
        else:
            network.save(path)
    return path


def converted(path: Path) -> tuple[MobileNetV2, Facts]:
    """Our network with the weights of a file, and what the file says of their use."""
    found = read_network(path).found
    return build_network(found, path), found.facts


@torch.no_grad()
def error_between(computed: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest logit."""
    assert computed.shape == expected.shape
    assert expected.std() > 1e-3
    return ((computed - expected).abs().max() / expected.abs().max()).item()


def check_conversion(network: keras.Model, path: Path, size: int) -> Facts:
    """A saved network, which takes normalised images, gives the logits of Keras."""
    ours, facts = converted(save(network, path))
    images = random_pixels(size)
    with torch.no_grad():
        assert error_between(ours(images), outputs_of(network, images)) < LARGEST_ERROR
    return facts


LARGEST_ERROR = 1e-5  # float32: the same sums in another order
Change = Callable[[dict[str, Any]], None]
