# SPDX-License-Identifier: Apache-2.0
"""The datasets that prepare_dataset.py knows, and what is published of each."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from preparing import caltech_sources, cifar_sources, digit_sources, folder_sources, imagenet_sources
from preparing.archives import Parts
from preparing.sources import SPLITS, Sample, Source
from shared.command_line import REPOSITORY

DATA = REPOSITORY / "data"


class Dataset(NamedTuple):
    """One row of DATASETS."""

    folder: str | None  # below data/; also dataset_name in config.py. None: named after the source
    read: Callable[[Source], Iterator[Sample]]
    classes: Parts | int | None  # their names, or how many were published
    images: tuple[int, int] | int | None  # as published: train and valid, or the sum where no split was published
    source: Path | None = None  # read without --source; None: downloaded, or see `remedy`
    remedy: str = ""  # what to do without a source where nothing may be downloaded
    is_fixed: bool = False  # False: a source with fewer images is taken, and a line says so
    is_divided: bool = True  # False: --valid-share and --seed hold
    split_folders: Parts = SPLITS
    split_archives: Mapping[str, str] = {}  # in the source; each gives one split, now or in a later run
    label_file: str = ""  # class_label_file in config.py


TEN = tuple("0123456789")
DATASETS = {
    "digits": Dataset("Digits", digit_sources.read_digits, TEN, (1437, 360), DATA / "digits.csv.gz", is_fixed=True),
    "mnist": Dataset("MNIST", digit_sources.read_mnist, TEN, (60_000, 10_000)),
    "cifar10": Dataset("CIFAR10", cifar_sources.read_cifar10, cifar_sources.CIFAR10_CLASSES, (50_000, 10_000)),
    "cifar100": Dataset("CIFAR100", cifar_sources.read_cifar100, 100, (50_000, 10_000)),
    "tiny_imagenet_200": Dataset("TinyImageNet_200", imagenet_sources.read_tiny_imagenet_200, 200, (100_000, 10_000)),
    "mini_imagenet_1k": Dataset(
        "MiniImageNet_1K",
        imagenet_sources.read_mini_imagenet_1k,
        100,
        None,
        remedy="get images/ and the csv files (data/README.md) and name their folder or archive with --source",
        is_divided=False,
    ),
    "imagenet_1k": Dataset(
        "ImageNet_1K",
        imagenet_sources.read_imagenet_1k,
        1000,
        (imagenet_sources.IMAGENET_IMAGES["train"], imagenet_sources.IMAGENET_IMAGES["valid"]),
        DATA / "ImageNet_1K",
        split_folders=("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
        split_archives=imagenet_sources.IMAGENET_ARCHIVES,
        label_file="./data/ImageNet_1K_labels_map.txt",
    ),
    "caltech101": Dataset("Caltech101", caltech_sources.read_caltech101, 101, 8_677, is_divided=False),
    "caltech256": Dataset("Caltech256", caltech_sources.read_caltech256, 256, 29_780, is_divided=False),
    "folder": Dataset(
        None,
        folder_sources.read_folder,
        None,
        None,
        remedy="name your folder of class folders with --source",
        is_divided=False,
    ),
}


def published_total(dataset: Dataset, splits: list[str]) -> int | None:
    """How many images to expect; readers that list names first know better."""
    if isinstance(dataset.images, tuple):
        return sum(dataset.images[SPLITS.index(split)] for split in splits)
    return None
