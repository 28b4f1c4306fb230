# SPDX-License-Identifier: Apache-2.0
"""The readers for ImageNet and its two subsets."""

import csv
import io
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from core.plurals import counted
from preparing.archives import (
    DigestReader,
    Parts,
    Readable,
    damage_named,
    open_source,
    read_whole,
    safe_parts,
    tar_files,
)
from preparing.sources import (
    SPLITS,
    Sample,
    Source,
    is_image,
    note_left_out,
    require_rereadable,
    split_by_share,
    visible_files,
)

VALID_NAMES = ("valid", "val", "validation")  # of lists of images
WNID = re.compile(r"n\d{8}")  # a WordNet synset, the class names of ImageNet
IMAGENET_ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "valid": "ILSVRC2012_img_val.tar"}
IMAGENET_IMAGES = {"train": 1_281_167, "valid": 50_000}
IMAGENET_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
MAX_DEVKIT_BYTES = 2**24  # of each of its two files that are read, packed and unpacked; all of them have 3 MB packed


def read_tiny_imagenet_200(source: Source) -> Iterator[Sample]:
    """Yield train/<wnid>/images/<image> and, by val/val_annotations.txt, val/images/<image>; test/ has no labels.

    Raises: ValueError if the annotations do not fit the images.
    """
    require_rereadable(source)
    classes = read_annotations(source)
    found = left_out = 0
    for parts, file in visible_files(source):
        if not is_image(parts[-1]):
            continue
        if len(parts) >= 4 and parts[-4] == "train" and parts[-2] == "images":
            yield Sample("train", parts[-3], parts[-1], read_whole(source.path, parts, file))
        elif parts[-3:-1] == ("val", "images"):
            if parts[-1] not in classes:
                raise ValueError(f"{source.path}: val_annotations.txt does not name {parts[-1]!r}; get it again")
            found += 1
            yield Sample("valid", classes[parts[-1]], parts[-1], read_whole(source.path, parts, file))
        else:
            left_out += 1
    if found != len(classes):
        raise ValueError(
            f"{source.path}: val_annotations.txt names "
            f"{counted(len(classes), 'image', form=',')}, {counted(found, 'is', 'are', form=',')} there; get it again"
        )
    note_left_out(source, left_out, "without a label, outside train/ and val/")


def read_annotations(source: Source) -> dict[str, str]:
    """The class of each validation image of Tiny ImageNet. Raises: ValueError if the file is missing or damaged."""
    for parts, file in visible_files(source):
        if parts[-2:] == ("val", "val_annotations.txt"):
            text = read_whole(source.path, parts, file, MAX_DEVKIT_BYTES).decode(errors="replace")
            rows = [line.split("\t") for line in text.splitlines() if line]
            if not rows or any(len(row) < 2 or not WNID.fullmatch(row[1]) for row in rows):
                raise ValueError(f"{source.path}: val_annotations.txt is not lines of image and class; get it again")
            return {row[0]: row[1] for row in rows}
    raise ValueError(f"{source.path}: holds no val/val_annotations.txt; name tiny-imagenet-200.zip or its folder")


def read_mini_imagenet_1k(source: Source) -> Iterator[Sample]:
    """Yield the images that the csv files (columns filename, label) name.

    If train and valid have the same classes they are the splits. The few-shot lists (Ravi and Larochelle, 2017) give
    every class to one list only, which cannot train a classifier: those are joined and split by the share.
    Raises: ValueError if the lists overlap otherwise, or an image is missing.
    """
    require_rereadable(source)
    lists = read_lists(source)
    classes = {name: set(rows.values()) for name, rows in lists.items()}
    if len(lists) > 1 and classes.get("train") == classes.get("valid"):
        split_of = {image: split for split in SPLITS for image in lists[split]}
        if "test" in lists:
            source.notes.append(
                f"{source.path}: test.csv is left out, {counted(len(lists['test']), 'image', form=',')}"
            )
        label_of = {image: label for split in SPLITS for image, label in lists[split].items()}
        source.total = len(label_of)
        for image, file in listed_images(source, label_of):
            data = read_whole(source.path, (image,), file)
            yield Sample(split_of[image], label_of[image], last_part(image), data)
        return
    if sum(map(len, classes.values())) != len(set().union(*classes.values())):
        raise ValueError(f"{source.path}: the csv files share some of their classes and not others; they cannot split")
    label_of = {image: label for rows in lists.values() for image, label in rows.items()}
    source.notes.append(
        f"{source.path}: no class is in two of the lists {', '.join(sorted(lists))}: they are joined, "
        f"and {source.valid_share:g} of each class is valid"
    )
    listing = ((label_of[image], last_part(image)) for image, _ in listed_images(source, label_of))
    images = ((label_of[image], last_part(image), file) for image, file in listed_images(source, label_of))
    yield from split_by_share(source, listing, images)


def last_part(image: str) -> str:
    """The name of an image without the folders that some copies of the dataset have inside images/."""
    return image.rpartition("/")[2]


def read_lists(source: Source) -> dict[str, dict[str, str]]:
    """The csv files of mini-ImageNet: train, valid, test -> image -> class. Raises: ValueError if they cannot be."""
    lists: dict[str, dict[str, str]] = {}
    for parts, file in visible_files(source):
        stem, _, suffix = parts[-1].rpartition(".")
        split = "valid" if stem in VALID_NAMES else stem
        if suffix != "csv" or split not in ("train", "valid", "test"):
            continue
        where = f"{source.path}: {parts[-1]}"
        if split in lists:
            raise ValueError(f"{where}: a second list of {split}; remove one")
        text = read_whole(source.path, parts, file, MAX_DEVKIT_BYTES).decode("utf-8-sig", errors="replace")
        lists[split] = parse_list(where, text)
    if not lists:
        raise ValueError(f"{source.path}: holds no train.csv, valid.csv or test.csv; data/README.md says what to get")
    for first, second in ((a, b) for a in lists for b in lists if a < b):
        if both := lists[first].keys() & lists[second].keys():
            raise ValueError(f"{source.path}: {first}.csv and {second}.csv both name {min(both)!r}; get them again")
    return lists


def parse_list(where: str, text: str) -> dict[str, str]:
    """Image -> class of one csv file; an image is a path inside images/, most often just a name. Raises: ValueError."""
    try:
        header, *lines = (
            [cell.strip() for cell in line] for line in csv.reader(io.StringIO(text), strict=True) if line
        )
        columns = header.index("filename"), header.index("label")
        rows = [["/".join(safe_parts(where, line[column])) for column in columns] for line in lines]
        if not rows or not all(image and label for image, label in rows):
            raise ValueError("it lists no images, or an empty name")
    except (IndexError, ValueError, csv.Error) as error:
        raise ValueError(f"{where}: not a list with the columns filename and label ({error})") from error
    if len(images := dict(rows)) < len(rows):
        raise ValueError(f"{where}: names an image twice; get it again")
    return images


def listed_images(source: Source, label_of: dict[str, str]) -> Iterator[tuple[str, Readable]]:
    """Yield the images/<image> that a list names. Raises: ValueError if one is missing."""
    missing, left_out = set(label_of), 0
    for parts, file in visible_files(source):
        if "images" not in parts[:-1] or not is_image(parts[-1]):
            continue
        if (name := "/".join(parts[parts.index("images") + 1 :])) in label_of:
            missing.discard(name)
            yield name, file
        else:
            left_out += 1
    if missing:
        of_csv = "image of the csv files is", "images of the csv files are"
        raise ValueError(
            f"{source.path}: {counted(len(missing), *of_csv, form=',')} not in images/, {min(missing)!r} first; "
            "get what is missing again"
        )
    if source.total is not None:  # a first pass, which only counts, would say it too
        note_left_out(source, left_out, "that no list names")


def imagenet_splits(folder: Path) -> Parts:
    """The splits whose archives lie in a folder."""
    return tuple(split for split in SPLITS if (folder / IMAGENET_ARCHIVES[split]).is_file())


def read_imagenet_1k(source: Source) -> Iterator[Sample]:
    """Yield the images of ILSVRC2012_img_train.tar and _val.tar, each archive read once and as it is.

    Raises: ValueError if an archive is damaged or another one, or the devkit is missing.
    """
    wnids = read_devkit(source.path / IMAGENET_DEVKIT) if "valid" in source.splits else []  # before hours of work
    readers: dict[str, Callable[[Path, Readable], Iterator[Sample]]] = {
        "train": read_imagenet_train,
        "valid": partial(read_imagenet_valid, wnids),
    }
    for split in source.splits:
        path = source.path / IMAGENET_ARCHIVES[split]
        with path.open("rb") as file, damage_named(path):
            digest, images = DigestReader(file), 0
            for sample in readers[split](path, digest):
                images += 1
                yield sample
        check_imagenet_archive(source, split, images, digest.digest.hexdigest())


def read_imagenet_train(path: Path, file: Readable) -> Iterator[Sample]:
    """Yield the images of a tar of n01440764.tar, ... Raises: ValueError if it holds anything else."""
    for parts, member in tar_files(path, file):
        wnid = parts[-1].removesuffix(".tar")
        if not WNID.fullmatch(wnid) or wnid == parts[-1]:
            raise ValueError(f"{path}: holds {parts[-1]!r}, no archive of a class; this is not {path.name}")
        for inner, image in tar_files(f"{path}: {parts[-1]}", member):
            yield Sample("train", wnid, imagenet_name(path, inner), read_whole(path, inner, image))


def read_imagenet_valid(wnids: list[str], path: Path, file: Readable) -> Iterator[Sample]:
    """Yield the validation images with the classes that the devkit gives. Raises: ValueError for one without."""
    for parts, image in tar_files(path, file):
        number = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", parts[-1])
        if not number or not 1 <= int(number[1]) <= len(wnids):
            raise ValueError(f"{path}: holds {parts[-1]!r}, none of the {len(wnids):,} images that the devkit knows")
        yield Sample("valid", wnids[int(number[1]) - 1], parts[-1], read_whole(path, parts, image))


def imagenet_name(path: Path, parts: Parts) -> str:
    """The file name of a training image. Raises: ValueError if it is no image."""
    if not is_image(parts[-1]):
        raise ValueError(f"{path}: holds {'/'.join(parts)!r}, which is no image; this is not {path.name}")
    return parts[-1]


def check_imagenet_archive(source: Source, split: str, images: int, md5: str) -> None:
    """Raise ValueError if a complete archive is not the published one; note an incomplete one."""
    from torchvision.datasets.imagenet import ARCHIVE_META

    path = source.path / IMAGENET_ARCHIVES[split]
    published = dict(ARCHIVE_META.values())[path.name]
    if md5 == published:
        return
    if images == IMAGENET_IMAGES[split]:
        raise ValueError(f"{path}: damaged, its MD5 is {md5} and not {published}; get the file again")
    found = counted(images, "image", form=",")
    source.notes.append(f"{path}: {found}, not the {IMAGENET_IMAGES[split]:,} of the complete archive")


def read_devkit(path: Path) -> list[str]:
    """The class (WNID) of each validation image, in their order. Raises: ValueError if it is missing or damaged."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the classes of the validation images are in it, get it too")
    files = {}
    try:
        for parts, file in open_source(path):
            if parts[-2:] in (("data", "meta.mat"), ("data", "ILSVRC2012_validation_ground_truth.txt")):
                files[parts[-1]] = read_whole(path, parts, file, MAX_DEVKIT_BYTES)
        wnids = parse_meta(files["meta.mat"])
        lines = files["ILSVRC2012_validation_ground_truth.txt"].split()
        return [wnids[int(line)] for line in lines]
    except Exception as error:  # a damaged MATLAB file can raise almost anything
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: damaged or not the devkit of 2012 ({reason}); get the file again") from error


def parse_meta(data: bytes) -> dict[int, str]:
    """ILSVRC2012_ID -> WNID of the synsets without children, which are the classes. Raises: any Exception."""
    from scipy.io import loadmat

    check_unpacked_size(data)
    synsets = np.atleast_1d(loadmat(io.BytesIO(data), squeeze_me=True)["synsets"])
    leaves = synsets[synsets["num_children"] == 0]
    wnids = {int(leaf["ILSVRC2012_ID"]): str(leaf["WNID"]) for leaf in leaves}
    if wrong := [wnid for wnid in wnids.values() if not WNID.fullmatch(wnid)]:
        raise ValueError(f"{wrong[0]!r} is no WNID")
    return wnids


def check_unpacked_size(data: bytes) -> None:
    """Raise ValueError if the packed parts of a MATLAB 5 file would take more than MAX_DEVKIT_BYTES of memory."""
    place, unpacked = 128, 0  # after the header come elements: type, size, data; type 15 is packed
    while place + 8 <= len(data):
        kind, size = np.frombuffer(data, "<u4", 2, place).tolist()
        if kind == 15:
            budget = MAX_DEVKIT_BYTES - unpacked
            unpacked += len(zlib.decompressobj().decompress(data[place + 8 : place + 8 + size], budget + 1))
        if unpacked > MAX_DEVKIT_BYTES:
            raise ValueError(f"its parts unpack to more than {MAX_DEVKIT_BYTES:,} bytes")
        place += 8 + size
