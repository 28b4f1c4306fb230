# SPDX-License-Identifier: Apache-2.0
"""Channels of like range, before a quantiser gives all of them one scale: the same network in other numbers."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model import InvertedResidual

POWER = 0.5  # of the share of the widest range: between the rounding of the values and that of the weights
BATCH = 16


class Stream(NamedTuple):
    """What writes to and reads from the same channels: blocks whose outputs are added up, and the layer after each."""

    writers: list[Any]  # convolutions
    readers: list[Any]
    blocks: list[str]  # their names in the network


@torch.inference_mode()
def equalise(network: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy of a plain network whose linear bottlenecks have channels of like range; it computes the same.

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
        for convolution in stream.writers:
            convolution.weight.mul_(factors[:, None, None, None])
            convolution.bias.mul_(factors)
        for convolution in stream.readers:
            convolution.weight.div_(factors[None, :, None, None])
    return changed


def find_streams(network: nn.Module) -> list[Stream]:
    """The streams of a plain network, from its first block to its last convolution."""
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


def channel_ranges(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """The largest magnitude in each channel of the output of each block, by its name."""
    ranges: dict[str, Tensor] = {}

    def note(name: str, output: Tensor) -> None:
        largest = output.abs().amax((0, 2, 3))
        ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest

    hooks = [
        block.register_forward_hook(lambda block, given, output, name=name: note(name, output))
        for name, block in network.named_modules()
        if isinstance(block, InvertedResidual)
    ]
    for part in inputs.split(BATCH):
        network(part)
    for hook in hooks:
        hook.remove()
    return ranges
