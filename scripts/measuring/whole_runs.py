# SPDX-License-Identifier: Apache-2.0
"""The part end-to-end of benchmark.py: test.py and train.py as whole processes, from their start to their end."""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
import torchvision
from torchvision.datasets import ImageFolder

from measuring.images import IMAGE_SIZE, link_images, photos, write_noise
from measuring.networks import left_out, precisions
from measuring.timing import Comparison, alternate
from shared.command_line import REPOSITORY
from shared.small_training import copy_program, edit_config

TRAIN_BATCH, SMALL_BATCH, TEST_BATCH = 32, 128, 50
TRAINED_IMAGES, VALIDATED_IMAGES = 2048, 64  # or one of each class, if those are more
SMALL_IMAGES, SMALL_SIZE, SMALL_EPOCHS = 8192, 32, 3


def end_to_end(options: argparse.Namespace) -> Iterator[Comparison]:
    """Whole processes, from their start to their end."""
    with tempfile.TemporaryDirectory() as name:
        for compare in (score, train_on_photos, train_on_small_images):
            yield compare(options, Path(name))


def score(options: argparse.Namespace, folder: Path) -> Comparison:
    """test.py against the plain evaluation of the same weights on the same photos."""
    root = photos(options, 1, folder).resolve()
    classes = len(ImageFolder(root).classes)
    weights = options.weights.resolve() if options.weights else folder / "weights.pth"
    if not options.weights:
        torch.save(torchvision.models.mobilenet_v2(num_classes=classes).state_dict(), weights)
    images = len(ImageFolder(root))
    settings = {
        **{"test_image_dir": str(root), "model_weights_path": str(weights), "model_num_classes": classes},
        **{"image_size": IMAGE_SIZE, "batch_size": TEST_BATCH, "num_workers": options.workers},
    }
    ours = {
        f"test.py, {precision}": run_ours(folder / precision, "test", settings | {"precision": precision})
        for precision in precisions()
    }
    if options.reference_evaluation:
        baseline, plain = "reference", [str(options.reference_evaluation.resolve()), str(weights), str(root)]
    else:
        flags = flags_of(weights=weights, image_size=IMAGE_SIZE, batch_size=TEST_BATCH, workers=options.workers)
        baseline, plain = "torchvision", [PLAIN, "test", str(root), *flags]
    times = alternate({baseline: partial(run, plain), **ours}, options.rounds)
    return Comparison(
        f"test.py from start to end, {images} photos, batch {TEST_BATCH}",
        list(ours),
        baseline,
        times,
        images,
        unit="s",
        missing=left_out(),
    )


def train_on_photos(options: argparse.Namespace, folder: Path) -> Comparison:
    """train.py for one epoch at 224 pixels in each of precisions(), against the plain loop."""
    candidates, images = photo_runs(options, folder)
    return Comparison(
        f"train.py from start to end, {images} photos, {IMAGE_SIZE} px, batch {TRAIN_BATCH}",
        list(candidates)[1:],
        "torchvision",
        alternate(candidates, options.rounds),
        images,
        unit="s",
        missing=left_out(),
    )


def photo_runs(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Callable[[], None]], int]:
    """One epoch of photos as whole processes: the plain loop, then train.py in each of precisions(); the images."""
    source = photos(options, 0, folder)
    classes = sum(path.is_dir() for path in source.iterdir())
    images = max(TRAINED_IMAGES, classes)
    train_root = link_images(source, folder / "photos/train", images)
    valid_root = link_images(source, folder / "photos/valid", max(VALIDATED_IMAGES, classes))
    size = {"image_size": IMAGE_SIZE, "batch_size": TRAIN_BATCH, "epochs": 1}
    plain, ours = train_commands(train_root, valid_root, folder / "train_photos", options, size)
    ours_by_name = {f"train.py, {precision}": ours(precision=precision) for precision in precisions()}
    return {"torchvision": plain} | ours_by_name, images


def train_on_small_images(options: argparse.Namespace, folder: Path) -> Comparison:
    """train.py for a few epochs at 32 pixels, with and without cache_images, against the plain loop."""
    source = options.images[2] if len(options.images) > 2 else None
    if source is None:
        source = write_noise(folder / "small_noise", SMALL_IMAGES, (32, 32), ".png", noise_share=1)
    train_root = link_images(source, folder / "small/train", SMALL_IMAGES)
    valid_root = link_images(source, folder / "small/valid", SMALL_IMAGES // 8)
    size = {"image_size": SMALL_SIZE, "batch_size": SMALL_BATCH, "epochs": SMALL_EPOCHS}
    plain, ours = train_commands(train_root, valid_root, folder / "train_small", options, size)
    candidates = {"torchvision": plain, "train.py": ours(), "train.py, cache_images": ours(cache_images=True)}
    return Comparison(
        f"train.py from start to end, {SMALL_EPOCHS} epochs of {SMALL_IMAGES} images, {SMALL_SIZE} px, "
        f"batch {SMALL_BATCH}",
        ["train.py", "train.py, cache_images"],
        "torchvision",
        alternate(candidates, options.rounds),
        SMALL_EPOCHS * SMALL_IMAGES,
        unit="s",
    )


def train_commands(
    train_root: Path, valid_root: Path, folder: Path, options: argparse.Namespace, size: dict[str, int]
) -> tuple[Callable[[], None], Callable[..., Callable[[], None]]]:
    """The plain loop as a process, and a function that gives train.py as a process with some settings."""
    settings = {
        **{"train_image_dir": str(train_root), "valid_image_dir": str(valid_root)},
        **{"model_num_classes": len(os.listdir(train_root)), "num_workers": options.workers},
        **{"random_crop_scale": (0.08, 1.0), "random_flip_probability": 0.5, "model_lr": 0.05, "lr_warmup_epochs": 0},
        **{"model_weight_decay": 4e-5, "loss_label_smoothing": 0.1},
    }
    folder.mkdir()
    flags = flags_of(weights=folder / "plain.pth", workers=options.workers, **size)
    plain = partial(run, [PLAIN, "train", str(train_root), str(valid_root), *flags])
    numbers = itertools.count()

    def ours(**values: object) -> Callable[[], None]:
        return run_ours(folder / str(next(numbers)), "train", settings | size | values)

    return plain, ours


PLAIN = str(REPOSITORY / "scripts/measuring/plain_training.py")


def flags_of(**values: object) -> list[str]:
    """image_size=32 -> --image-size 32."""
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in values.items())
    return list(itertools.chain(*pairs))


def run_ours(root: Path, mode: str, settings: Mapping[str, object]) -> Callable[[], None]:
    """Each call runs train.py or test.py as a user would, in a folder of its own."""
    copy_program(root)
    edit_config(root / "config.py", {"mode": mode, "device": "cpu", **settings})
    numbers = itertools.count()

    def call() -> None:
        run([f"{mode}.py"], root, EXP_NAME=f"run_{next(numbers)}")

    return call


def run(command: list[str], root: Path = REPOSITORY, **environment: str) -> None:
    """Run a Python script to its end. Raises: ChildProcessError with the last line of its errors if it fails."""
    done = subprocess.run(
        [sys.executable, *command], cwd=root, env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise ChildProcessError(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
