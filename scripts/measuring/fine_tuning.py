# SPDX-License-Identifier: Apache-2.0
"""The part fine-tuning of benchmark.py: train.py with frozen blocks beside the loop of PyTorch's tutorial."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torchvision

from measuring.images import write_noise
from measuring.timing import Comparison, wall_seconds
from measuring.whole_runs import PLAIN, flags_of, run, run_ours

SIZE, BATCH = 96, 64
TRAINED_IMAGES, VALIDATED_IMAGES = 5_000, 10_000
LAST_BLOCKS = 5
FROZEN = {f"the last {LAST_BLOCKS} blocks": 14, "the classifier alone": 19}


def fine_tuning(options: argparse.Namespace) -> Iterator[Comparison]:
    """Whole processes, one run each: the plain loop takes minutes to an hour.

    --images: a folder to train on and one to validate on; without them, as many small images of noise as CIFAR-10's.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train_root, valid_root = find_images(options, folder)
        classes = sum(path.is_dir() for path in train_root.iterdir())
        start = folder / "start.pth"
        torch.manual_seed(0)
        torch.save(torchvision.models.mobilenet_v2(num_classes=classes).state_dict(), start)
        for title, blocks in reversed(FROZEN.items()):
            yield compare(options, folder / str(blocks), (train_root, valid_root, start), title, blocks)


def find_images(options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """The folders to train and to validate on."""
    if len(options.images) > 1:
        return options.images[0].resolve(), options.images[1].resolve()
    noise = [
        write_noise(folder / name, count, (32, 32), ".jpg", noise_share=0.2)
        for name, count in (("train", TRAINED_IMAGES), ("valid", VALIDATED_IMAGES))
    ]
    return noise[0], noise[1]


def compare(
    options: argparse.Namespace, folder: Path, files: tuple[Path, Path, Path], title: str, blocks: int
) -> Comparison:
    """train.py with and without augmentation, the outputs kept, beside the plain loop."""
    train_root, valid_root, start = files
    folder.mkdir()
    images = len(list(train_root.glob("*/*")))
    shared = {"image_size": SIZE, "batch_size": BATCH, "epochs": options.epochs, "frozen_blocks": blocks}
    flags = flags_of(weights=folder / "plain.pth", start=start, workers=options.workers, **shared)
    settings = shared | {
        **{"train_image_dir": str(train_root), "valid_image_dir": str(valid_root), "num_workers": options.workers},
        **{"model_num_classes": len(list(train_root.iterdir())), "pretrained_model_weights_path": str(start)},
        **{"model_lr": 0.001, "lr_warmup_epochs": 0},
    }
    augmented = {"random_crop_scale": (0.08, 1.0), "random_flip_probability": 0.5, "cached_views": 4}
    plain = {"random_crop_scale": None, "random_flip_probability": 0.0}
    candidates: dict[str, Callable[[], object]] = {
        "torchvision": partial(run, [PLAIN, "fine-tune", str(train_root), str(valid_root), *flags]),
        "train.py, no augmentation": run_ours(folder / "plain", "train", settings | plain),
        "train.py, 4 augmented views": run_ours(folder / "views", "train", settings | augmented),
    }
    return Comparison(
        f"fine-tuning {title}, from start to end, {options.epochs} epochs of {images} images, {SIZE} px, batch {BATCH}",
        ["train.py, no augmentation", "train.py, 4 augmented views"],
        "torchvision",
        {name: [wall_seconds(action)] for name, action in candidates.items()},
        options.epochs * images,
        unit="s",
    )
