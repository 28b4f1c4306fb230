# SPDX-License-Identifier: Apache-2.0
"""Channels of like range, before a quantiser gives all of them one scale: the same network in other numbers."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model import InvertedResidual, ReLU6

POWER = 0.5  # of the share of the widest range: between the rounding of the values and that of the weights
CEILING = 6.0  # of ReLU6
MARGIN = 1.25  # over the largest value of the calibration images
LARGEST_FACTOR = 64.0
BATCH = 16


class Stream(NamedTuple):
    """What writes to and reads from the same channels: blocks whose outputs are added up, and the layer after each."""

    writers: list[Any]  # convolutions of a plain network, else their batch-norms
    readers: list[Any]  # convolutions
    blocks: list[str]  # their names in the network


@torch.inference_mode()
def equalise(network: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy of a network, plain or not, whose linear bottlenecks have channels of like range; it computes the same.

    No ReLU6 stands behind these layers, so a factor can move from the weights that write a channel to those that read
    it (arXiv:1906.04721, section 4.1). The weights have a scale for each channel that they write, and lose nothing.
    `inputs`: calibration images as the network takes them.
    """
    changed = copy.deepcopy(network)
    ranges = channel_ranges(changed, inputs)
    for stream in find_streams(changed):
        widest = torch.stack([ranges[name] for name in stream.blocks]).amax(0)
        used = widest.clamp_min(1e-6 * widest.amax()).clamp_min(torch.finfo(torch.float32).tiny)
        factors = (used.amax() / used) ** POWER
        for writer in stream.writers:
            scale(writer, factors)
        for convolution in stream.readers:
            convolution.weight.div_(factors[None, :, None, None])
    return changed


@torch.inference_mode()
def raise_channels(network: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy of a network with batch-norm whose channels behind ReLU6 reach up to 6, as far as they may.

    Larger values than those of `inputs`, normalised images [N, 3, H, W], are clipped sooner than before, so that it
    computes the same only nearly: a start for training, before which such factors are recommended
    (arXiv:2106.08295, section 4.4).
    """
    changed = copy.deepcopy(network)
    features: Any = changed.get_submodule("features")
    writers = [features[0], *(block.conv[0] for block in features[2:18])]
    readers = [features[1].conv[0][0], *(block.conv[1][0] for block in features[2:18])]
    ranges = channel_ranges(changed, inputs, ReLU6)
    names = {layer: name for name, layer in changed.named_modules()}
    for (_, norm, activation), reader in zip(writers, readers, strict=True):
        room = CEILING / (MARGIN * ranges[names[activation]]).clamp_min(CEILING / LARGEST_FACTOR)
        factors = room.clamp_min(1)
        scale(norm, factors)
        reader.weight.div_(factors[:, None, None, None])
    return changed


def scale(layer: Any, factors: Tensor) -> None:
    """Multiply the channels that a layer writes."""
    layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias.mul_(factors)


def find_streams(network: nn.Module) -> list[Stream]:
    """The streams of a network, from its first block to its last convolution."""
    streams: list[Stream] = []
    for name, block in network.get_submodule("features").named_children():
        if isinstance(block, InvertedResidual):
            layers: list[Any] = list(block.conv)
            if streams:
                streams[-1].readers.append(layers[0][0])
            if not block.has_skip:
                streams.append(Stream([], [], []))
            streams[-1].writers.append(layers[-1])
            streams[-1].blocks.append(f"features.{name}")
        elif streams:
            streams[-1].readers.append(network.get_submodule(f"features.{name}.0"))
    return streams


def channel_ranges(network: nn.Module, inputs: Tensor, kind: type[nn.Module] = InvertedResidual) -> dict[str, Tensor]:
    """The largest magnitude in each channel of the output of each layer of a kind, by its name."""
    ranges: dict[str, Tensor] = {}

    def note(name: str, output: Tensor) -> None:
        largest = output.abs().amax((0, 2, 3))
        ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest

    hooks = [
        layer.register_forward_hook(lambda layer, given, output, name=name: note(name, output))
        for name, layer in network.named_modules()
        if isinstance(layer, kind)
    ]
    for part in inputs.split(BATCH):
        network(part)
    for hook in hooks:
        hook.remove()
    return ranges
