# SPDX-License-Identifier: Apache-2.0
"""The images that benchmark.py reads: those of --images, or generated ones; links to them, and small copies.

The folders of --images are, in this order: photos to train on as they come from a camera or ImageNet; photos to score
(by default the same); small images to train on at 32 pixels. What is not given is generated: random noise, smoothed
until its files have the size of ImageNet's.
"""

import argparse
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from core.image_names import IMAGE_SUFFIXES
from preparing.conversion import convert

IMAGE_SIZE = 224  # of every part but the training on small images
IMAGENET_SIDES = 468, 401  # mean width and height of ImageNet's files
PHOTO_NOISE = 0.052  # gives such a file their mean of 110 kB


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
        noise = generator.integers(0, 256, (sides[1], sides[0], 3), dtype=np.uint8)
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
