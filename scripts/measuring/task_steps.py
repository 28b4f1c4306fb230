# SPDX-License-Identifier: Apache-2.0
"""The part tasks of benchmark.py: training steps of detection and segmentation on the CPU, on random images."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from core.recomputing import recomputing
from detection.model import SSDLite
from measuring.networks import BASELINE, CPU, Action, left_out, precisions
from measuring.timing import Comparison, alternate, in_own_process
from segmentation.model import DeepLabV3
from utils import autocast, setup_runtime

BATCH, STEPS = 8, 2  # images in a step, steps in a run
SETTLING = 3  # runs before the first that counts
OBJECTS = 5  # in an image
DETECTED, SEGMENTED = 90, 21  # classes: those of torchvision's networks, without and with a background
OTHER_MODES = {"float32": "torchvision, eager float32 NHWC", "bfloat16": "torchvision, eager bfloat16 autocast NHWC"}


class Work(NamedTuple):
    """What is trained here and in torchvision, and on what."""

    theirs: Callable[..., nn.Module]
    ours: Callable[[int], nn.Module]
    num_classes: int
    image_size: int
    create_targets: Callable[[int], Any]  # for images of so many pixels a side
    compute_loss: Callable[[nn.Module, Tensor, Any], Tensor]


def tasks(options: argparse.Namespace) -> Iterator[Comparison]:
    """Forward, loss, backward and a step of SGD, in alternating runs."""
    for name, work in WORKS.items():
        dtypes = {precision: getattr(torch, precision) for precision in precisions()}
        modes = {BASELINE: (torch.float32, torch.contiguous_format)}
        modes |= {OTHER_MODES[precision]: (dtype, torch.channels_last) for precision, dtype in dtypes.items()}
        others = {title: in_own_process(settled, their_steps, name, *mode) for title, mode in modes.items()}
        ours = {title: in_own_process(settled, our_steps, name, dtype) for title, dtype in dtypes.items()}
        times = alternate(others | ours, options.rounds)
        title = f"training step on the CPU, {name} beside {work.theirs.__name__}"
        title += f", batch {BATCH}, {work.image_size} px"
        yield Comparison(title, list(ours), BASELINE, times, BATCH * STEPS, missing=left_out())


def settled(build: Callable[..., Action], *arguments: object) -> Action:
    """The steps that build(*arguments) gives, after some of them."""
    run = build(*arguments)
    for _ in range(SETTLING):
        run()
    return run


def their_steps(name: str, dtype: torch.dtype, memory_format: torch.memory_format) -> Action:
    """Of torchvision's network as it builds it, with fresh weights."""
    network = WORKS[name].theirs(weights=None, weights_backbone=None).to(memory_format=memory_format)
    return steps(WORKS[name], network, network, dtype, memory_format)


def our_steps(name: str, dtype: torch.dtype) -> Action:
    """In a process set up as train.py's."""
    setup_runtime(0, CPU.type)
    network = WORKS[name].ours(WORKS[name].num_classes).to(memory_format=torch.channels_last)
    return steps(WORKS[name], network, recomputing(network, dtype), dtype, torch.channels_last)


def steps(
    work: Work, network: nn.Module, form: nn.Module, dtype: torch.dtype, memory_format: torch.memory_format
) -> Action:
    """Training steps of a network, which a form of it computes; the optimizer is torch's as it comes, ours is fused."""
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, work.image_size, work.image_size).contiguous(memory_format=memory_format)
    targets = work.create_targets(work.image_size)
    fused = form is not network or None
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=4e-5, fused=fused)

    def run() -> None:
        form.train()
        for _ in range(STEPS):
            with autocast(CPU, dtype):
                loss = work.compute_loss(form, images, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def create_boxes(image_size: int) -> list[dict[str, Tensor]]:
    """Of objects with sides of a tenth to four tenths of the image's."""
    targets = []
    for _ in range(BATCH):
        corners, sides = torch.rand(2, OBJECTS, 2)
        corners = 0.6 * image_size * corners
        boxes = torch.cat([corners, corners + image_size * (0.1 + 0.3 * sides)], 1)
        targets.append({"boxes": boxes, "labels": torch.randint(1, DETECTED + 1, (OBJECTS,))})
    return targets


def create_masks(image_size: int) -> Tensor:
    return torch.randint(SEGMENTED, (BATCH, image_size, image_size))


def detection_loss(network: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
    """The sum of the two losses; torchvision's network takes a list, which it normalises and resizes."""
    is_theirs = hasattr(network, "transform")
    losses: dict[str, Tensor] = network(list(images) if is_theirs else images, targets)
    return torch.stack(list(losses.values())).sum()


def segmentation_loss(network: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    """Of torchvision's network that of its main output: as built, it has no other."""
    found = network(images)
    logits = found["out"] if isinstance(found, dict) else found
    return nn.functional.cross_entropy(logits, masks)


WORKS = {
    "ssdlite": Work(ssdlite320_mobilenet_v3_large, SSDLite, DETECTED, 320, create_boxes, detection_loss),
    "deeplab_v3": Work(deeplabv3_mobilenet_v3_large, DeepLabV3, SEGMENTED, 224, create_masks, segmentation_loss),
}
