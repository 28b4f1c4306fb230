# SPDX-License-Identifier: Apache-2.0
"""The part padding of benchmark.py: TensorFlow's padding beside the symmetric one, on the CPU."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from core.folding import as_one_graph, folded
from measuring.forward_pass import BATCHES, CALLS, forward
from measuring.images import IMAGE_SIZE
from measuring.networks import CPU_BATCH, NUM_CLASSES, precisions, random_images, trained_network
from measuring.timing import Comparison, alternate, repeated
from model import TENSORFLOW, TORCHVISION, MobileNetV2

SYMMETRIC, SAME = "symmetric padding", "TensorFlow's padding"


def padding(options: argparse.Namespace) -> Iterator[Comparison]:
    """The forms that score, for one image and for a batch, and a training step."""
    for batch, calls in ((1, CALLS), (CPU_BATCH, BATCHES)):
        for precision in precisions():
            make = partial(folded_forward, batch=batch, dtype=getattr(torch, precision))
            yield compare(options, f"folded, {precision}, batch {batch}", calls, make)
    yield compare(options, "one graph, batch 1", CALLS, lambda n: forward(as_one_graph(n, IMAGE_SIZE), images_of(1)))
    yield compare(options, f"forward and backward, batch {CPU_BATCH}", 1, training_step)


def compare(
    options: argparse.Namespace, name: str, calls: int, make: Callable[[nn.Module], Callable[[], object]]
) -> Comparison:
    """What `make` makes of a network with each padding, in alternating runs."""
    networks = {SYMMETRIC: network_with(TORCHVISION.padding), SAME: network_with(TENSORFLOW.padding)}
    candidates = {title: repeated(make(network), calls) for title, network in networks.items()}
    times = alternate(candidates, options.rounds)
    return Comparison(f"{name}, {IMAGE_SIZE} px", [SAME], SYMMETRIC, times, calls, "ms")


def folded_forward(network: nn.Module, batch: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    return forward(folded(network, dtype), images_of(batch), dtype)


def network_with(padding: str) -> MobileNetV2:
    network = MobileNetV2(NUM_CLASSES, dropout=0.0, definition=TORCHVISION._replace(padding=padding)).eval()
    network.load_state_dict(trained_network().state_dict())
    return network.to(memory_format=torch.channels_last)


def images_of(batch: int) -> Tensor:
    return random_images(batch).contiguous(memory_format=torch.channels_last)


def training_step(network: nn.Module) -> Callable[[], None]:
    """The part of a training step that the padding changes."""
    network.train()
    images, targets = images_of(CPU_BATCH), torch.arange(CPU_BATCH)

    def step() -> None:
        nn.functional.cross_entropy(network(images), targets).backward()
        network.zero_grad()

    return step
