# SPDX-License-Identifier: Apache-2.0
"""The published forms of each dataset: one generator per dataset turns a source on disk into samples.

Image files are yielded with the bytes they have; arrays become PNG. data/README.md says where the sources come from.
"""

import gzip
import hashlib
import io
import math
import pickle
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from archives import (
    DAMAGE,
    GZIP_MAGIC,
    MAX_READ_BYTES,
    ForwardReader,
    Parts,
    Readable,
    open_source,
    read_whole,
    tar_files,
)
from folder_layouts import Folder, Layout, find_layout

SPLITS = ("train", "valid")
IMAGE_SUFFIXES = (  # as imgproc.py
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg"),
    *(".png", ".tif", ".tiff", ".webp"),
)
VALID_NAMES = ("valid", "val", "validation")  # of lists of images

DIGITS_LINES = 1797
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Images of each digit, to tell MNIST from the datasets that copy its format and size.
MNIST_COUNTS = {
    60_000: (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    10_000: (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


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


# The parts that readers share.


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
        source.notes.append(f"{source.path}: left out {count:,} images {where}")


def require_rereadable(source: Source) -> None:
    """Raise ValueError for a pipe: names are read first, then the images."""
    if source.path.exists() and not (source.path.is_file() or source.path.is_dir()):
        raise ValueError(f"{source.path}: a pipe, which cannot be read twice; store it as a file")


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG of [H, W] grey or [H, W, 3] RGB uint8 pixels."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", pixels)[1].tobytes()


def unpack(where: object, data: bytes) -> bytes:
    """Undo gzip if the data are packed. Raises: ValueError if far too large; one of DAMAGE."""
    if not data.startswith(GZIP_MAGIC):
        return data
    return read_whole(where, ("the unpacked file",), gzip.GzipFile(fileobj=io.BytesIO(data)))


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
        raise ValueError(f"{source.path}: {len(names)} class folders with images; a dataset needs two or more")
    if small := sorted(class_name for class_name, found in names.items() if len(found) < 2):
        raise ValueError(
            f"{source.path}: only 1 image of class {', '.join(small[:5])}; each needs one to train and one to validate"
        )
    valid = {class_name: choose_valid(class_name, found, source) for class_name, found in names.items()}
    source.total = sum(map(len, names.values()))
    for class_name, file_name, file in images:
        split = "valid" if file_name in valid[class_name] else "train"
        yield Sample(split, class_name, file_name, read_whole(source.path, (class_name, file_name), file))


# Digits and MNIST


def read_digits(source: Source) -> Iterator[Sample]:
    """Yield the 1,797 digits as 8 x 8 grey PNG files named after their line in the CSV file, counted from 1.

    The split is fixed and uses no random numbers: the lines, sorted by class and inside a class as they stand in the
    file, go to valid if their place is 0, 5, 10, ...: 360 of them, a fifth of every class to within one image.
    Raises: ValueError if the source is not the published file.
    """
    try:
        with gzip.open(source.path) as file:
            lines = file.read(MAX_READ_BYTES).splitlines()
        table = np.array([[int(value) for value in line.split(b",")] for line in lines], dtype=np.int64)
    except (ValueError, OverflowError, *DAMAGE) as error:
        raise ValueError(f"{source.path}: damaged or not a digits.csv.gz ({error}); restore the file") from error
    if table.shape != (DIGITS_LINES, 65) or table.min() < 0 or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise ValueError(
            f"{source.path}: not {DIGITS_LINES} lines of 64 values 0..16 and a class 0..9; restore the file"
        )
    pixels = np.rint(table[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    labels = table[:, 64]
    for place, line in enumerate(np.argsort(labels, kind="stable")):
        split = "valid" if place % 5 == 0 else "train"
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
                f"{source.path}: {split} has images {pixels.shape} and labels {labels.shape} in {len(counts)} classes; "
                "not MNIST, get it again"
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
        raise ValueError(f"{where}: not an idx file of unsigned bytes, or cut off ({len(data):,} bytes); get it again")
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)


# CIFAR


class CifarForm(NamedTuple):
    """What differs between CIFAR-10 and CIFAR-100."""

    name: str  # of torchvision's class, which knows the names and MD5 of the batches
    folder: str
    labels_key: str
    classes: Parts  # of a source that holds <any one folder>/train/<class>/<image> and .../valid/... instead

    def published(self) -> type:
        """torchvision's class. Importing it takes seconds, which class folders need not wait for."""
        from torchvision import datasets

        return getattr(datasets, self.name)


def read_cifar10(source: Source) -> Iterator[Sample]:
    """Yield CIFAR-10 from its Python batches, or from class folders as they are. Raises: as read_cifar."""
    return read_cifar(source, CifarForm("CIFAR10", "cifar-10-batches-py", "labels", CIFAR10_CLASSES))


def read_cifar100(source: Source) -> Iterator[Sample]:
    """Yield CIFAR-100 with its 100 fine classes from its Python batches. Raises: as read_cifar."""
    return read_cifar(source, CifarForm("CIFAR100", "cifar-100-python", "fine_labels", ()))


def read_cifar(source: Source, form: CifarForm) -> Iterator[Sample]:
    """Yield 32 x 32 PNG files named after their place in the batches, counted from 0 in each split, or class folders.

    Raises: ValueError if the source holds neither or both, a batch that is not the published file, another class.
    """
    choice = f"of {form.folder}/{' and train/<class>/, valid/<class>/' if form.classes else ''}; name one with just one"
    batches: dict[str, bytes] = {}
    tops, left_out = set(), 0
    for parts, file in visible_files(source):
        is_batch = parts[-2:-1] == (form.folder,) and parts[-1] in batch_sums(form)
        is_in_class = bool(form.classes) and len(parts) >= 3 and parts[-3] in SPLITS and is_image(parts[-1])
        if (is_batch and tops) or (is_in_class and batches):
            raise ValueError(f"{source.path}: holds both {choice}")
        if is_batch:
            batches[parts[-1]] = read_whole(source.path, parts, file)
            check_batch(source, form, parts[-1], batches[parts[-1]])
        elif is_in_class:
            check_class_folder(source, parts, form.classes)
            tops.add("/".join(parts[:-3]))
            if len(tops) > 1:
                raise ValueError(
                    f"{source.path}: holds two datasets, {' and '.join(map(repr, sorted(tops)))}; name one"
                )
            yield Sample(*parts[-3:], read_whole(source.path, parts, file))
        else:
            left_out += is_image(parts[-1])
    if not batches and not tops:
        raise ValueError(f"{source.path}: holds nothing {choice}")
    note_left_out(source, left_out, "outside train/<class>/ and valid/<class>/")
    if batches:
        for name in batch_sums(form):
            check_batch(source, form, name, batches.get(name, b""))
        yield from read_batches(batches, form)


def batch_sums(form: CifarForm) -> dict[str, str]:
    """The name and the published MD5 of each batch."""
    published = form.published()
    return dict([*published.train_list, *published.test_list, (published.meta["filename"], published.meta["md5"])])


def check_class_folder(source: Source, parts: Parts, classes: Parts) -> None:
    """Raise ValueError if the image <split>/<class>/<image> belongs to another dataset, before much is copied."""
    if parts[-2] not in classes:
        raise ValueError(
            f"{source.path}: {'/'.join(parts)!r}: no class of this dataset; those are {', '.join(classes)}"
        )


def check_batch(source: Source, form: CifarForm, name: str, data: bytes) -> None:
    """Raise ValueError if a batch is not the published file: it is a pickle, which can run code when it is read."""
    md5 = batch_sums(form)[name]
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(
            f"{source.path}: {form.folder}/{name} is missing or not the published file (MD5 {md5}); "
            f"get {form.published().url} again"
        )


def read_batches(batches: dict[str, bytes], form: CifarForm) -> Iterator[Sample]:
    """Yield the images of batches whose checksums were compared."""
    published = form.published()
    classes = pickle.loads(batches[published.meta["filename"]], encoding="latin1")[published.meta["key"]]
    for split, names in zip(SPLITS, (published.train_list, published.test_list), strict=True):
        place = 0
        for name, _ in names:
            batch = pickle.loads(batches[name], encoding="latin1")
            pixels = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # stored red, green, blue
            for image, label in zip(pixels, batch[form.labels_key], strict=True):
                yield Sample(split, classes[label], f"{place:05d}.png", encode_png(np.ascontiguousarray(image)))
                place += 1


# Caltech and one's own folder


def read_caltech101(source: Source) -> Iterator[Sample]:
    """Yield 101_ObjectCategories/<class>/<image> without BACKGROUND_Google, split by the share."""
    return read_caltech(source, "101_ObjectCategories", "BACKGROUND_Google")


def read_caltech256(source: Source) -> Iterator[Sample]:
    """Yield 256_ObjectCategories/<class>/<image> without 257.clutter, split by the share."""
    return read_caltech(source, "256_ObjectCategories", "257.clutter")


def read_caltech(source: Source, top: str, background: str) -> Iterator[Sample]:
    """Yield the images below the folder `top`. Raises: ValueError if there is none."""
    require_rereadable(source)
    listing = ((class_name, file_name) for class_name, file_name, _ in caltech_images(source, top, background))
    yield from split_by_share(source, listing, caltech_images(source, top, background))


def caltech_images(source: Source, top: str, background: str) -> Iterator[tuple[str, str, Readable]]:
    """Yield (class, file name, open file) of the images right in their class folders, also of a <top>.tar.gz inside.

    Raises: ValueError if there is no folder of that name.
    """
    found, left_out = False, {"of the class " + background: 0, "or other files, not <class>/<image>": 0}
    for parts, file in caltech_files(source, top):
        if top not in parts[:-1]:
            continue
        found, below = True, parts[parts.index(top) + 1 :]
        if below[0] == background:
            left_out["of the class " + background] += 1
        elif len(below) == 2 and is_image(below[1]):
            yield *below, file
        else:
            left_out["or other files, not <class>/<image>"] += 1
    if not found:
        raise ValueError(f"{source.path}: holds no {top}; name the archive or folder that data/README.md describes")
    if source.total is not None:  # a first pass, which only counts, would say it too
        for where, count in left_out.items():
            note_left_out(source, count, where)


def caltech_files(source: Source, top: str) -> Iterator[tuple[Parts, Readable]]:
    """Yield the files of the source, those of a packed <top> inside it among them."""
    for parts, file in visible_files(source):
        if parts[-1] in (f"{top}.tar.gz", f"{top}.tar"):
            inner_files = tar_files(f"{source.path}: {parts[-1]}", ForwardReader(file))
            yield from ((inner, image) for inner, image in inner_files if not is_hidden(inner))
        else:
            yield parts, file


def read_folder(source: Source) -> Iterator[Sample]:
    """Yield the images of class folders split by the share, or those of train and valid as they are.

    Raises: ValueError if it is not clear what the folders are.
    """
    require_rereadable(source)
    images, left_out = list_folder(source)
    try:
        layout = find_layout(Folder.of(images), source.path, source.test_as_valid)
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from error
    places = [place for parts in images if (place := layout.place(parts))]
    source.notes += [f"{source.path}: {note}" for note in layout.notes]
    note_left_out(source, len(images) - len(places), "outside class folders")
    if left_out:
        source.notes.append(f"{source.path}: left out {left_out}")
    placed = placed_images(source, layout)
    if None in layout.splits.values():
        listing = ((class_name, name) for _, class_name, name in places)
        yield from split_by_share(source, listing, ((*place[1:], file) for place, file in placed))
        return
    source.total = len(places)
    for (split, class_name, name), file in placed:
        yield Sample(split, class_name, name, read_whole(source.path, (split, class_name, name), file))


def list_folder(source: Source) -> tuple[list[Parts], str]:
    """The names of all images, and the words for the files that are none. Raises: ValueError without an image."""
    from imgproc import describe_left_out, is_left_out, kind_of_name  # imports torch, which takes seconds

    images, left_out = [], Counter[str]()
    for parts, _ in folder_parts(source):
        if is_image(parts[-1]):
            images.append(parts)
        elif is_left_out(parts[-1]):
            left_out[kind_of_name(parts[-1])] += 1
    described = describe_left_out(left_out)
    if not images:
        raise ValueError(f"{source.path}: no images in it{f'; left out {described}' if described else ''}")
    return images, described


def folder_parts(source: Source) -> Iterator[tuple[Parts, Readable]]:
    """Yield every visible file, its name without the source's own."""
    above = 1 if source.path.is_dir() else 0
    return ((parts[above:], file) for parts, file in visible_files(source))


def placed_images(source: Source, layout: Layout) -> Iterator[tuple[tuple[str | None, str, str], Readable]]:
    """Yield the images in class folders: (split, class, name inside the class), open file."""
    for parts, file in folder_parts(source):
        if is_image(parts[-1]) and (place := layout.place(parts)):
            yield place, file
