# SPDX-License-Identifier: Apache-2.0
"""Weights rounded to int8 before a quantiser sees them, with biases that undo what this shifts."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 127  # of an int8 weight: its scales are symmetric, as every runtime wants them
USED_IMAGES = 32  # of those that calibrate: one mean of a channel is taken over all positions of all of them
USED_PIXELS = USED_IMAGES * 224 * 224  # which take 0.5 GB in the largest map


@torch.inference_mode()
def round_weights(network: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy with weights in steps of int8, one scale a channel, that keeps the mean of each layer's channels.

    Rounding the nine weights of a depthwise channel whose input hardly varies shifts all that follows: without this
    the answers of a network with real batch-norm can differ for a fifth of the images. A quantiser finds the same
    scales again, for the largest weight of a channel is a step. `inputs`: calibration images as the network takes them.
    """
    means: dict[str, Tensor] = {}

    def note(name: str, output: Tensor) -> None:
        means[name] = channel_means(output)

    run_with(network, note, inputs)
    rounded = copy.deepcopy(network)
    layers = dict(rounded.named_modules())
    for layer in weighted_layers(rounded).values():
        layer.weight.copy_(to_steps(layer.weight))

    def correct(name: str, output: Tensor) -> Tensor:
        # From input to output, so that each layer is corrected for what the ones before it still do.
        shift = means[name] - channel_means(output)
        layers[name].bias.add_(shift)
        return output + shift.view(-1, *[1] * (output.dim() - 2))

    run_with(rounded, correct, inputs)
    return rounded


def run_with(network: nn.Module, see: Any, inputs: Tensor) -> None:
    """Run once with see(name, output) for each layer with weights; what it returns takes the place of the output."""
    hooks = [
        layer.register_forward_hook(lambda layer, given, output, name=name: see(name, output))
        for name, layer in weighted_layers(network).items()
    ]
    network(inputs)
    for hook in hooks:
        hook.remove()


def weighted_layers(network: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}


def channel_means(output: Tensor) -> Tensor:
    """[N, C, ...] -> [C]"""
    return output.transpose(0, 1).flatten(1).mean(1)


def to_steps(weight: Tensor) -> Tensor:
    """The nearest multiples of 1/127 of each output channel's largest weight."""
    largest = weight.abs().flatten(1).amax(1).clamp_min(torch.finfo(torch.float32).tiny * LARGEST)
    step = (largest / LARGEST).view(-1, *[1] * (weight.dim() - 1))
    return (weight / step).round() * step
