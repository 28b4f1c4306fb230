# SPDX-License-Identifier: Apache-2.0
"""The parts of benchmark.py that read images: the loader alone, and train.py and test.py as whole processes.

The folders of --images are, in this order: photos to train on as they come from a camera or ImageNet; photos to score
(by default the same); small images to train on at 32 pixels. What is not given is generated: random noise, smoothed
until its files have the size of ImageNet's.
"""

import argparse
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

import plain_training
from benchmark_timing import Comparison, alternate
from command_line import REPOSITORY
from dataset import CPUPrefetcher, ImageDataset, create_batches
from imgproc import IMAGE_SUFFIXES, train_transform
from small_training import copy_program, edit_config
from work_folder import convert

IMAGE_SIZE, SMALL_SIZE = 224, 32
LOADER_BATCH, TRAIN_BATCH, SMALL_BATCH, TEST_BATCH = 64, 32, 128, 50
LOADED_IMAGES = 2048  # in an epoch of the loader, as many batches for each worker: fewer are taken several times
TRAINED_IMAGES, VALIDATED_IMAGES = 1024, 64  # or one of each class, if those are more
SMALL_IMAGES, SMALL_EPOCHS = 4096, 3
IMAGENET_SIDES = 468, 401  # mean width and height of ImageNet's files
PHOTO_NOISE = 0.052  # gives such a file their mean of 110 kB


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
        title = f"loader, {options.workers} workers, random crop and flip, {IMAGE_SIZE} px, batch {LOADER_BATCH}"
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
        color_jitter=None,
        interpolation="bilinear",
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        device=torch.device("cpu"),
    )
    return partial(exhaust, batches)


def exhaust(batches: DataLoader) -> None:
    """Take all batches. Raises: RuntimeError if they are not as many images as every candidate is to give."""
    count = sum(len(targets) for _, targets in batches)
    if count != LOADED_IMAGES // LOADER_BATCH * LOADER_BATCH:
        raise RuntimeError(f"an epoch of {count} images is other work than the epochs beside it")


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
        for precision in ("float32", "bfloat16")
    }
    if options.reference_evaluation:
        plain = {"reference": partial(run, [str(options.reference_evaluation.resolve()), str(weights), str(root)])}
    else:
        flags = flags_of(weights=weights, image_size=IMAGE_SIZE, batch_size=TEST_BATCH, workers=options.workers)
        plain = {"torchvision": partial(run, [PLAIN, "test", str(root), *flags])}
    times = alternate(plain | ours, options.rounds)
    return Comparison(
        f"test.py from start to end, {images} photos, batch {TEST_BATCH}", list(ours), *plain, times, images, unit="s"
    )


def train_on_photos(options: argparse.Namespace, folder: Path) -> Comparison:
    """train.py for one epoch at 224 pixels in both precisions, against the plain loop."""
    source = photos(options, 0, folder)
    classes = sum(path.is_dir() for path in source.iterdir())
    images = max(TRAINED_IMAGES, classes)
    train_root = link_images(source, folder / "photos/train", images)
    valid_root = link_images(source, folder / "photos/valid", max(VALIDATED_IMAGES, classes))
    size = {"image_size": IMAGE_SIZE, "batch_size": TRAIN_BATCH, "epochs": 1}
    plain, ours = train_commands(train_root, valid_root, folder / "train_photos", options, size)
    candidates = {f"train.py, {precision}": ours(precision=precision) for precision in ("float32", "bfloat16")}
    return Comparison(
        f"train.py from start to end, {images} photos, {IMAGE_SIZE} px, batch {TRAIN_BATCH}",
        list(candidates),
        "torchvision",
        alternate({"torchvision": plain} | candidates, options.rounds),
        images,
        unit="s",
    )


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


PLAIN = str(REPOSITORY / "scripts/plain_training.py")


def flags_of(**values: object) -> list[str]:
    """image_size=32 -> --image-size 32."""
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in values.items())
    return list(itertools.chain(*pairs))


def run_ours(root: Path, mode: str, settings: dict[str, object]) -> Callable[[], None]:
    """Each call runs train.py or test.py as a user would, in a folder of its own."""
    copy_program(root)
    edit_config(root / "config.py", {"mode": mode, "device": "cpu"} | settings)
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


def photos(options: argparse.Namespace, place: int, folder: Path) -> Path:
    """The folder of --images at a place, or the one before it, or generated photos."""
    if options.images:
        return options.images[min(place, len(options.images) - 1)]
    generated = folder / "noise"
    return generated if generated.exists() else write_noise(generated, 200, IMAGENET_SIDES, ".jpg", PHOTO_NOISE)


def write_noise(root: Path, images: int, sides: tuple[int, int], suffix: str, noise_share: float) -> Path:
    """Images of smooth random shapes and a share of noise, in ten class folders; JPEG in 4:4:4 with quality 95."""
    generator = np.random.default_rng(0)
    flags = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    for number in range(images):
        shapes = cv2.resize(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8), sides, interpolation=cv2.INTER_CUBIC)
        noise = generator.integers(0, 256, shapes.shape, dtype=np.uint8)
        path = root / str(number % 10) / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.addWeighted(shapes, 1 - noise_share, noise, noise_share, 0)
        cv2.imwrite(str(path), image, flags if suffix == ".jpg" else [])
    return root


def link_images(source: Path, target: Path, count: int) -> Path:
    """A folder of links to `count` images of `source`, taken in turns from its classes, and again if it has fewer."""
    by_class = [iter_images(source, name) for name in sorted(os.listdir(source)) if (source / name).is_dir()]
    in_turns = [path for turn in itertools.zip_longest(*by_class) for path in turn if path is not None]
    if not in_turns:
        raise FileNotFoundError(f"{source}: no <class>/<image> files; give --images another folder")
    for number, path in enumerate(itertools.islice(itertools.cycle(in_turns), count)):
        link = target / path.parent.name / f"{number}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return target


def iter_images(root: Path, name: str) -> Iterator[Path]:
    return (path for path in sorted((root / name).iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES)


def store_small(source: Path, target: Path) -> Path:
    """The copy of a folder that prepare_dataset.py --short-side 256 makes."""
    for path in sorted(source.glob("*/*")):
        data = path.read_bytes()
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(convert(data, str(path), 256, is_turned=False) or data)
    return target
