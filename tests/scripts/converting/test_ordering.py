# SPDX-License-Identifier: Apache-2.0
"""scripts/converting/ordering.py: one way to put the layers of a file into the order of the network, or none."""

import random
import re

import pytest
import timm
import torchvision
from foreign_networks import NAMINGS, TIMM_WIDTHS, Weights, keras, rename, torchvision_network

from converting.layers import group_layers, network_layers
from converting.ordering import order_layers


def order(weights: Weights, width: float) -> list[str]:
    layers = group_layers(weights)
    ordered, _ = order_layers(layers, network_layers(width), "file")
    return [layer.name for layer in ordered]


def shuffled(weights: Weights, seed: int) -> Weights:
    names = list(weights)
    random.Random(seed).shuffle(names)
    return {name: weights[name] for name in names}


def layer_names(weights: Weights) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in weights))


def all_namings(width: float) -> list[Weights]:
    """State dicts in the order of the layers, under the names of each project."""
    weights = torchvision.models.mobilenet_v2(num_classes=2, width_mult=width).state_dict()
    timm_name = next(name for name, value in TIMM_WIDTHS.items() if value == width)
    timm_weights = timm.create_model(f"mobilenetv2_{timm_name}", pretrained=False, num_classes=2).state_dict()
    return [weights, timm_weights, *(rename(weights, naming) for naming in NAMINGS)]


@pytest.mark.parametrize("width", [0.35, 1.0])
def test_alphabetical_and_shuffled_files_are_put_in_order(width: float) -> None:
    for weights in all_namings(width):
        assert order(weights, width) == layer_names(weights)
        assert order(dict(sorted(weights.items())), width) == layer_names(weights)
        assert order(dict(reversed(weights.items())), width) == layer_names(weights)
        for seed in range(5):
            assert order(shuffled(weights, seed), width) == layer_names(weights)


def test_names_that_do_not_tell_are_refused_in_any_other_order() -> None:
    weights = rename(torchvision_network().state_dict(), keras)
    assert order(weights, 0.35) == layer_names(weights)
    for changed in (dict(sorted(weights.items())), *(shuffled(weights, seed) for seed in range(20))):
        with pytest.raises(ValueError, match=r"both fit .*, and nothing tells which is right"):
            order(changed, 0.35)


def test_order_against_the_numbers_is_refused_where_both_fit() -> None:
    """Blocks 8 and 9 have equal shapes: in this file they are swapped, or their names are."""
    weights = torchvision.models.mobilenet_v2(num_classes=2).state_dict()
    swap = {"8": "9", "9": "8"}
    names = [re.sub(r"^features\.(8|9)\.", lambda m: f"features.{swap[m[1]]}.", name) for name in weights]
    with pytest.raises(ValueError, match="numbers in the names contradict the order in the file"):
        order({name: weights[name] for name in names}, 1.0)
