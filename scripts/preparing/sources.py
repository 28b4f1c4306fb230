# SPDX-License-Identifier: Apache-2.0
"""What the readers share: one generator per dataset, in ..._sources.py, turns a source on disk into samples.

Image files are yielded with the bytes they have; arrays become PNG. data/README.md says where the sources come from.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from core.image_names import IMAGE_SUFFIXES
from core.plurals import counted
from preparing.archives import Parts, Readable, open_source, read_whole

SPLITS = ("train", "valid")


class Sample(NamedTuple):
    """One image."""

    split: str
    class_name: str
    file_name: str  # "/" separates folders inside the class
    data: bytes


@dataclass
class Source:
    """What a reader is given, and what it says about it."""

    path: Path
    valid_share: float
    seed: int
    splits: Parts = SPLITS
    total: int | None = None  # samples, for the progress bar, as soon as the reader knows
    notes: list[str] = field(default_factory=list)  # lines for the user
    test_as_valid: bool = False


def is_image(name: str) -> bool:
    """Tell by the suffix."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_hidden(parts: Parts) -> bool:
    """Tell whether the file or a folder above it is hidden, as the copies are that macOS puts into archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def visible_files(source: Source) -> Iterator[tuple[Parts, Readable]]:
    """Yield every file of the source that is not hidden."""
    return ((parts, file) for parts, file in open_source(source.path) if not is_hidden(parts))


def note_left_out(source: Source, count: int, where: str) -> None:
    """Tell the user how many images were not taken."""
    if count:
        source.notes.append(f"{source.path}: left out {counted(count, 'image', form=',')} {where}")


def require_rereadable(source: Source) -> None:
    """Raise ValueError for a pipe: names are read first, then the images."""
    if source.path.exists() and not (source.path.is_file() or source.path.is_dir()):
        raise ValueError(f"{source.path}: a pipe, which cannot be read twice; store it as a file")


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG of [H, W] grey or [H, W, 3] RGB uint8 pixels."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", pixels)[1].tobytes()


def choose_valid(class_name: str, names: list[str], source: Source) -> set[str]:
    """The share of a class that goes to valid, always at least one image and never all: by order of a seeded hash."""

    def order(name: str) -> bytes:
        return hashlib.sha256(f"{source.seed}/{class_name}/{name}".encode(errors="surrogateescape")).digest()

    count = math.floor(source.valid_share * len(names) + 0.5)
    return set(sorted(names, key=order)[: min(max(count, 1), len(names) - 1)])


def split_by_share(
    source: Source, listing: Iterable[tuple[str, str]], images: Iterator[tuple[str, str, Readable]]
) -> Iterator[Sample]:
    """Divide the images (class, file name, open file) into train and valid; `listing` has the same names, read before.

    Raises: ValueError if there are fewer than two classes, or a class has fewer than two images.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for class_name, file_name in listing:
        names[class_name].append(file_name)
    if len(names) < 2:
        raise ValueError(
            f"{source.path}: {counted(len(names), 'class folder')} with images; a dataset needs two or more"
        )
    if small := sorted(class_name for class_name, found in names.items() if len(found) < 2):
        raise ValueError(
            f"{source.path}: only 1 image of class {', '.join(small[:5])}; each needs one to train and one to validate"
        )
    valid = {class_name: choose_valid(class_name, found, source) for class_name, found in names.items()}
    source.total = sum(map(len, names.values()))
    for class_name, file_name, file in images:
        split = "valid" if file_name in valid[class_name] else "train"
        yield Sample(split, class_name, file_name, read_whole(source.path, (class_name, file_name), file))
