# SPDX-License-Identifier: Apache-2.0
"""The readers for the datasets of handwritten digits: Digits and MNIST."""

import gzip
import io
import math
import re
from collections.abc import Iterator

import numpy as np

from core.digit_scenes import is_valid, read_digits_csv, to_grey
from core.plurals import counted
from preparing.archives import GZIP_MAGIC, read_whole
from preparing.sources import SPLITS, Sample, Source, encode_png, visible_files

# Images of each digit, to tell MNIST from the datasets that copy its format and size.
MNIST_COUNTS = {
    60_000: (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    10_000: (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


def unpack(where: object, data: bytes) -> bytes:
    """Undo gzip if the data are packed. Raises: ValueError if far too large; one of DAMAGE."""
    if not data.startswith(GZIP_MAGIC):
        return data
    return read_whole(where, ("the unpacked file",), gzip.GzipFile(fileobj=io.BytesIO(data)))


def read_digits(source: Source) -> Iterator[Sample]:
    """Yield the 1,797 digits as 8 x 8 grey PNG files named after their line in the CSV file, counted from 1.

    The split is fixed: core.digit_scenes.is_valid(). The digits come sorted by class.
    Raises: ValueError if the source is not the published file.
    """
    levels, labels = read_digits_csv(source.path)
    pixels, valid = to_grey(levels), is_valid(labels)
    for line in np.argsort(labels, kind="stable"):
        split = "valid" if valid[line] else "train"
        yield Sample(split, str(labels[line]), f"{line + 1:04d}.png", encode_png(pixels[line]))


def read_mnist(source: Source) -> Iterator[Sample]:
    """Yield 28 x 28 grey PNG files named after their place in the idx files, counted from 0 in each split.

    Raises: ValueError if one of the four files is missing or not what it should be.
    """
    files: dict[str, bytes] = {}
    for parts, file in visible_files(source):
        name = parts[-1].replace(".idx", "-idx").removesuffix(".gz")  # unpacked copies are often named .idx3-ubyte
        if re.fullmatch(r"(train|t10k)-(images-idx3|labels-idx1)-ubyte", name):
            data = unpack(source.path, read_whole(source.path, parts, file))
            if files.setdefault(name, data) != data:
                raise ValueError(f"{source.path}: holds two different {name}; remove one")
    for split, prefix in zip(SPLITS, ("train", "t10k"), strict=True):
        names = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        if missing := [name for name in names if name not in files]:
            raise ValueError(f"{source.path}: holds no {' and no '.join(missing)}; get MNIST's four idx files")
        pixels, labels = (parse_idx(f"{source.path}: {name}", files[name]) for name in names)
        counts = tuple(np.bincount(labels.ravel(), minlength=10).tolist()) if labels.size else ()
        if pixels.shape[1:] != (28, 28) or labels.shape != pixels.shape[:1] or len(counts) != 10:
            raise ValueError(
                f"{source.path}: {split} has images {pixels.shape} and labels {labels.shape} in "
                f"{counted(len(counts), 'class', 'classes')}; not MNIST, get it again"
            )
        if counts != MNIST_COUNTS.get(len(labels), counts):
            raise ValueError(f"{source.path}: {split} has other numbers of each digit than MNIST; get MNIST itself")
        for place, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            yield Sample(split, str(label), f"{place:05d}.png", encode_png(image))


def parse_idx(where: str, data: bytes) -> np.ndarray:
    """The uint8 array of an idx file: two zeros, type 8, the number of axes, their big-endian sizes, the values.

    Raises: ValueError if it is anything else.
    """
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    shape = np.frombuffer(data[4 : 4 + 4 * axes], dtype=">u4").tolist() if len(data) >= 4 + 4 * axes else []
    if not shape or len(data) != 4 + 4 * axes + math.prod(shape):
        size = counted(len(data), "byte", form=",")
        raise ValueError(f"{where}: not an idx file of unsigned bytes, or cut off ({size}); get it again")
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)
