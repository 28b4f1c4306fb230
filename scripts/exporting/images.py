# SPDX-License-Identifier: Apache-2.0
"""The images of an export: those that calibrate int8, and those that are scored."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from torch.utils.data import DataLoader

from core.image_cache import free_memory
from core.loader_workers import Stack, start_worker
from core.pixels import Image
from core.plurals import counted
from core.settings import config_lines
from dataset import ImageDataset, create_generator
from imgproc import eval_transform

USUAL_COUNT = 300  # of images to calibrate on; from 100 on the answers hardly change
BATCH = 32


class Images(NamedTuple):
    """Some images of a folder of classes."""

    folder: str
    levels: Image  # uint8 [N, S, S, 3]
    targets: np.ndarray  # int64 [N]
    paths: list[str]


def calibration_images(config: ModuleType, classes: Sequence[str], folder: Path | None, count: int | None) -> Images:
    """Images to calibrate on, drawn by config.seed from `folder`, or from the training images; by default 300.

    Raises: FileNotFoundError; ValueError if there are fewer than asked, or the folder has other classes.
    """
    if folder is None and config.mode != "train":
        raise ValueError(
            f"config.py line {config_lines(config).get('mode', '?')}: int8 is calibrated on training images, and "
            'mode = "test" names none; name a folder with --calibration, or set mode = "train"'
        )
    dataset = open_folder(config, str(folder or config.train_image_dir), classes)
    if count is not None and count > len(dataset):
        raise ValueError(f"{dataset.root}: {counted(len(dataset), 'image')}, and --images asks for {count}; lower it")
    count = count or min(USUAL_COUNT, len(dataset))
    order = create_generator(config.seed).permutation(len(dataset))
    return load(config, dataset, np.sort(order[:count]))


def scored_images(config: ModuleType, classes: Sequence[str], count: int | None) -> Images:
    """The images of the validation folder, or `count` of them, drawn by config.seed.

    Raises: FileNotFoundError; ValueError if there are fewer than asked, or the folder has other classes.
    """
    dataset = open_folder(config, scored_folder(config), classes)
    if count is not None and count > len(dataset):
        raise ValueError(f"{dataset.root}: {counted(len(dataset), 'image')}, and --check asks for {count}; lower it")
    order = create_generator(config.seed).permutation(len(dataset))
    return load(config, dataset, np.sort(order[:count]))


def scored_folder(config: ModuleType) -> str:
    """The folder of images that no training saw."""
    folder: str = config.valid_image_dir if config.mode == "train" else config.test_image_dir
    return folder


def open_folder(config: ModuleType, folder: str, classes: Sequence[str]) -> ImageDataset:
    return ImageDataset(
        os.path.expanduser(folder),
        partial(eval_transform, image_size=config.image_size),
        num_classes=len(classes),
        classes=classes,
        may_lack_classes=True,
        apply_orientation=config.apply_orientation,
    )


def load(config: ModuleType, dataset: ImageDataset, indices: np.ndarray) -> Images:
    """Read some of the images, with config.num_workers. Raises: ValueError if they are more than memory holds."""
    size = config.image_size
    needed = len(indices) * size * size * 3
    if needed > free_memory() / 2:
        raise ValueError(
            f"{dataset.root}: {len(indices)} images at {size} pixels take {needed / 2**30:.1f} GiB of memory; check "
            "fewer with --check N"
        )
    levels = np.empty((len(indices), size, size, 3), np.uint8)
    keys = [(0, int(index)) for index in indices]
    loader = DataLoader(
        dataset,
        batch_sampler=[keys[start : start + BATCH] for start in range(0, len(keys), BATCH)],
        num_workers=config.num_workers,
        collate_fn=Stack(BATCH),
        worker_init_fn=partial(start_worker, on_start=None),
        multiprocessing_context="fork" if config.num_workers > 0 and sys.platform == "linux" else None,
    )
    for number, (images, _) in enumerate(loader):
        levels[number * BATCH :][: len(images)] = images.numpy()
    return Images(
        dataset.root, levels, dataset.targets[indices].astype(np.int64), [dataset.path(index) for index in indices]
    )
