# SPDX-License-Identifier: Apache-2.0
"""The part loader of benchmark.py: from files to normalised batches, without a network."""

import argparse
import importlib.util
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from core.plurals import counted
from dataset import CPUPrefetcher, ImageDataset, create_batches
from imgproc import train_transform
from measuring import plain_training
from measuring.images import IMAGE_SIZE, link_images, photos, store_small
from measuring.timing import Comparison, alternate

LOADER_BATCH = 64
LOADED_IMAGES = 2048  # in an epoch of the loader, as many batches for each worker: fewer are taken several times


def loader(options: argparse.Namespace) -> list[Comparison]:
    """Epochs of the training transform, from JPEG files to normalised batches."""
    with tempfile.TemporaryDirectory() as folder:
        originals = link_images(photos(options, 0, Path(folder)), Path(folder, "originals"), LOADED_IMAGES)
        small = store_small(originals, Path(folder, "short_side_256"))
        ours, plain = partial(our_epochs, options=options), partial(plain_epochs, options=options)
        from_originals = {"torchvision": plain(originals), "this loader": ours(originals)}
        from_small = {
            "torchvision, originals": from_originals["torchvision"],
            "torchvision, copy": plain(small),
            "this loader, copy": ours(small),
        }
        missing = []
        if importlib.util.find_spec("timm"):
            from_originals["timm"] = timm_epochs(originals, options)
        else:
            missing.append("timm is not installed; make bench installs it")
        images = LOADED_IMAGES // LOADER_BATCH * LOADER_BATCH
        title = (
            f"loader, {counted(options.workers, 'worker')}, random crop and flip, {IMAGE_SIZE} px, batch {LOADER_BATCH}"
        )
        return [
            Comparison(
                f"{title}, originals",
                ["this loader"],
                "torchvision",
                alternate(from_originals, options.rounds),
                images,
                missing=missing,
            ),
            Comparison(
                f"{title}, a copy made with --short-side 256",
                ["this loader, copy"],
                "torchvision, originals",
                alternate(from_small, options.rounds),
                images,
            ),
        ]


def our_epochs(root: Path, options: argparse.Namespace) -> Callable[[], None]:
    """Each call runs one epoch of this program's loader."""
    batches = our_batches(root, options.workers, LOADER_BATCH, torch.device("cpu"))
    epochs = itertools.count()

    def run() -> None:
        batches.set_epoch(next(epochs))
        exhaust(batches)

    return run


def our_batches(root: Path, workers: int, batch_size: int, device: torch.device) -> CPUPrefetcher:
    """This program's loader with the random crop and flip that every candidate has."""
    transform = partial(
        train_transform,
        image_size=IMAGE_SIZE,
        crop_scale=(0.08, 1.0),
        flip_probability=0.5,
        trivial_augment=False,
        erasing_probability=0.0,
        erasing_value=(0, 0, 0),
    )
    dataset = ImageDataset(root, transform, num_classes=len(os.listdir(root)), seed=0)
    return create_batches(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        mean=plain_training.MEAN,
        std=plain_training.STD,
        device=device,
    )


def plain_epochs(root: Path, options: argparse.Namespace) -> Callable[[], None]:
    """Each call runs one epoch of torchvision's reference: ImageFolder on Pillow, float batches."""
    batches = DataLoader(
        ImageFolder(root, plain_training.train_transform(IMAGE_SIZE)),
        batch_size=LOADER_BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    return partial(exhaust, batches)


def timm_epochs(root: Path, options: argparse.Namespace) -> Callable[[], None]:
    """Each call runs one epoch of timm's loader, with its prefetcher."""
    from timm.data import ImageDataset as TimmDataset
    from timm.data import create_loader

    batches = create_loader(
        TimmDataset(str(root)),
        input_size=(3, IMAGE_SIZE, IMAGE_SIZE),
        batch_size=LOADER_BATCH,
        is_training=True,
        color_jitter=None,  # type: ignore[arg-type]  # its type leaves None out, which it takes for no jitter
        interpolation="bilinear",
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        device=torch.device("cpu"),
    )
    return partial(exhaust, batches)


def exhaust(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Take all batches. Raises: RuntimeError if they are not as many images as every candidate is to give."""
    count = sum(len(targets) for _, targets in batches)
    if count != LOADED_IMAGES // LOADER_BATCH * LOADER_BATCH:
        raise RuntimeError(f"an epoch of {count} images is other work than the epochs beside it")
