# SPDX-License-Identifier: Apache-2.0
"""Weights rounded to int8 before a quantiser sees them, with biases that undo what this shifts."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 127  # of an int8 weight: its scales are symmetric, as every runtime wants them
LARGEST_PAIR = 128  # 255 times as much is the most that 16 bits hold
FINEST = 2**-20  # of the largest step of a layer; less would be lost in the sums

Steps = dict[str, Tensor]  # of each layer: float [C], what a channel's weights are multiples of


def steps_of_all(layer: Any) -> Tensor:
    """How many steps the largest weight of each channel of a layer has: float [C]."""
    return torch.full((len(layer.weight),), float(LARGEST))


def steps_of_pairs(layer: Any) -> Tensor:
    """The same, from 63 to 127, where two products of one sum must fit into 16 bits.

    x86 processors without VNNI add the products of two neighbouring inputs, uint8, with int8 weights so (vpmaddubsw,
    in ONNX Runtime and OpenVINO), and what is beyond becomes the largest number: a network loses five points of
    accuracy. In a kernel of several pixels any two weights may be neighbours; a depthwise layer has no such sums.
    """
    weight = layer.weight.flatten(1)
    if getattr(layer, "groups", 1) > 1:
        return steps_of_all(layer)
    signs = torch.stack([weight.clamp_min(0), (-weight).clamp_min(0)])  # [2, C, inputs]
    if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
        pairs = signs.topk(2, dim=2).values.sum(2)
    else:
        pairs = nn.functional.pad(signs, (0, weight.shape[1] % 2)).unflatten(2, (-1, 2)).sum(3).amax(2)
    largest = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    shares = largest / torch.maximum(pairs.amax(0), largest)
    counts: Tensor = ((LARGEST_PAIR - 0.5) * shares).floor().clamp_max(LARGEST)  # rounding may add half a step to each
    return counts


@torch.inference_mode()
def round_weights(
    network: nn.Module, inputs: Tensor, count_steps: Callable[[Any], Tensor] = steps_of_all
) -> tuple[nn.Module, Steps]:
    """A copy with weights in steps of int8, one scale a channel, that keeps the mean of each layer's channels.

    Rounding the nine weights of a depthwise channel whose input hardly varies shifts all that follows: without this
    the answers of a network with real batch-norm can differ for a fifth of the images. With steps_of_all() a quantiser
    finds the same scales again, for the largest weight of a channel is a step. `inputs`: calibration images as the
    network takes them.
    """
    means: dict[str, Tensor] = {}

    def note(name: str, output: Tensor) -> None:
        means[name] = channel_means(output)

    run_with(network, note, inputs)
    rounded = copy.deepcopy(network)
    layers = weighted_layers(rounded)
    steps = {name: find_steps(layer, count_steps(layer)) for name, layer in layers.items()}
    for name, layer in layers.items():
        step = steps[name].view(-1, *[1] * (layer.weight.dim() - 1))
        layer.weight.copy_((layer.weight / step).round() * step)

    def correct(name: str, output: Tensor) -> Tensor:
        # From input to output, so that each layer is corrected for what the ones before it still do.
        shift = means[name] - channel_means(output)
        layers[name].bias.add_(shift)
        return output + shift.view(-1, *[1] * (output.dim() - 2))

    run_with(rounded, correct, inputs)
    return rounded, steps


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


def find_steps(layer: Any, counts: Tensor) -> Tensor:
    """The step of each channel, of which its largest weight has so many: float [C], above 0."""
    steps: Tensor = layer.weight.abs().flatten(1).amax(1) / counts
    return steps.clamp_min(FINEST * float(steps.max()) or 1.0)
