# SPDX-License-Identifier: Apache-2.0
"""Folders of images for the tests of datasets."""

from functools import partial
from pathlib import Path

import torch

from dataset import (
    CPUPrefetcher,
    ImageDataset,
    create_batches,
)
from imgproc import train_transform

TRAIN = partial(
    train_transform,
    image_size=32,
    crop_scale=(0.2, 1.0),
    flip_probability=0.5,
    trivial_augment=True,
    erasing_probability=0.5,
    erasing_value=(1, 2, 3),
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def train_batches(folder: Path, num_workers: int = 0, seed: int = 3) -> CPUPrefetcher:
    dataset = ImageDataset(folder, TRAIN, num_classes=3, seed=seed)
    return batches_of(dataset, num_workers)


def batches_of(dataset: ImageDataset, num_workers: int = 0, batch_size: int = 4) -> CPUPrefetcher:
    return create_batches(
        dataset, batch_size=batch_size, num_workers=num_workers, mean=MEAN, std=STD, device=torch.device("cpu")
    )


def each_batch(batches: CPUPrefetcher, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batches.set_epoch(epoch)
    return list(batches)


def epoch_of(batches: CPUPrefetcher, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and targets of one epoch."""
    images, targets = zip(*each_batch(batches, epoch), strict=True)
    return torch.cat(images), torch.cat(targets)


def make_tree(root: Path, *names: str) -> Path:
    """Empty files, with the folders they need."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def damage(path: str | Path) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:200])
