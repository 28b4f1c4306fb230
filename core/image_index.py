# SPDX-License-Identifier: Apache-2.0
"""The images of a folder in a few arrays, and the file that saves listing them again."""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.folders import list_class, list_classes, walk_class
from core.image_names import IMAGE_SUFFIXES, describe_left_out


def check_counts(root: str, index: "Index") -> None:
    """Raise FileNotFoundError for a class folder without images, with what it holds instead."""
    for name, count in zip(index.classes, index.counts, strict=True):
        if count == 0:
            left_out = list_class(os.path.join(root, name))[1]
            instead = f", but {describe_left_out(left_out)}" if left_out else ""
            raise FileNotFoundError(
                f"{root}/{name}: no images ({', '.join(IMAGE_SUFFIXES)}){instead}; add some or remove the folder"
            )


class Index(NamedTuple):
    """The images of a folder of class folders, in sorted order; for 1.28 million of them about 30 MB."""

    classes: list[str]  # of list_classes(), in whose order the images come
    counts: np.ndarray  # int64 [C]: images of each class
    lengths: np.ndarray  # uint16 [N]: bytes of each name
    names: np.ndarray  # uint8 [sum of lengths]: the names below their class folders, one after the other
    left_out: Counter[str]  # what describe_left_out() takes


def scan_folder(root: str) -> Index:
    """List every image on disk, and count what else lies there."""
    classes = list_classes(root)
    left_out: Counter[str] = Counter()
    buffers, counts, lengths = [], [], []
    for name in classes:
        images, others = list_class(os.path.join(root, name))
        buffers.append(b"".join(images))
        counts.append(len(images))
        lengths.append(np.fromiter(map(len, images), np.uint16, len(images)))
        left_out += others
    beside = [entry for entry in os.scandir(root) if entry.name.lower().endswith(IMAGE_SUFFIXES)]
    left_out += Counter({STRAYS: sum(entry.is_file() and not entry.name.startswith(".") for entry in beside)})
    names = np.frombuffer(b"".join(buffers), np.uint8)
    return Index(classes, np.array(counts), np.concatenate(lengths), names, left_out)


STRAYS = "outside the class folders (move each image into its class)"

# The index file <root>.index.npz lies next to a folder and saves listing it. It holds the arrays of Index, and:
#   classes    uint8   the class folders in their order, separated by NUL
#   left_out   uint8   JSON object: what is left out, and how many files of it
#   image_suffixes  uint8   IMAGE_SUFFIXES, separated by NUL: what counted as an image
#   folders    uint8   the folder itself, its class folders and those below, relative to it, separated by NUL
#   changed    int64   when each of them changed last (ctime, nanoseconds): adding, removing or renaming a file sets it
# The files of the first version, with classes in the order of text, had no image_suffixes: they are ignored here, and
# these there. Asking a thousand folders for that time takes milliseconds, where listing a million files takes seconds
# or minutes.


def index_path(root: str | Path) -> Path:
    """Where the index file of a folder lies."""
    return Path(os.path.abspath(root) + ".index.npz")


def write_index(root: str | Path) -> None:
    """Write the index file of a folder, whole or not at all; none if the folder is changing, or links to nothing.

    Raises: FileNotFoundError if it has no class folders.
    """
    root, path = str(root), index_path(root)
    list_classes(root)
    time.sleep(0.1)  # the clock of a file system ticks every 10 ms: a later change must get another time
    folders = list_folders(root)
    changed = change_times(root, folders)
    index = scan_folder(root)
    is_still = list_folders(root) == folders and np.array_equal(change_times(root, folders), changed)
    if not is_still or has_dangling_links(root, folders):
        return
    arrays = index._asdict() | {
        "classes": to_bytes([os.fsencode(name) for name in index.classes]),
        "left_out": np.frombuffer(json.dumps(index.left_out).encode(), np.uint8),
        "image_suffixes": SUFFIXES,
        "folders": to_bytes(folders),
        "changed": changed,
    }
    partial = path.with_name(f".{path.name}.partial")  # one name: the next call replaces what a killed one left
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def list_folders(root: str) -> list[bytes]:
    """The folder itself, its class folders and those below, relative to it."""
    below = (folder for name in list_classes(root) for folder, *_ in walk_class(os.path.join(root, name)))
    return [b".", *(os.fsencode(os.path.relpath(folder, root)) for folder in below)]


def has_dangling_links(root: str, folders: list[bytes]) -> bool:
    """Tell whether a link points to nothing: its target could appear later, and no folder here would change."""
    for folder in folders:
        with os.scandir(os.path.join(os.fsencode(root), folder)) as entries:
            if any(entry.is_symlink() and not os.path.exists(entry.path) for entry in entries):
                return True
    return False


def read_index(root: str | Path) -> Index | None:
    """Read the index file of a folder; None if there is none, or if the folder has changed since it was written."""
    try:
        with index_path(root).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            classes = [os.fsdecode(name) for name in arrays["classes"].tobytes().split(b"\0")]
            left_out = Counter(json.loads(arrays["left_out"].tobytes()))
            index = Index(classes, arrays["counts"], arrays["lengths"], arrays["names"], left_out)
            folders = arrays["folders"].tobytes().split(b"\0")
            is_current = np.array_equal(arrays["changed"], change_times(root, folders))
            has_suffixes = np.array_equal(arrays["image_suffixes"], SUFFIXES)
    except Exception:  # a damaged file can raise almost anything; without an index the folder is listed
        return None
    is_whole = len(index.lengths) == index.counts.sum() and len(index.names) == index.lengths.sum(dtype=np.int64)
    is_whole = is_whole and len(index.counts) == len(index.classes)
    return index if is_current and has_suffixes and is_whole and index.counts.min(initial=0) >= 0 else None


def change_times(root: str | Path, folders: list[bytes]) -> np.ndarray:
    """When each folder below the root changed last: int64, nanoseconds."""
    return np.array([os.stat(os.path.join(os.fsencode(root), folder)).st_ctime_ns for folder in folders])


def to_bytes(names: list[bytes]) -> np.ndarray:
    """Names as one array: numpy's own strings would need pickle, or the length of the longest for each."""
    return np.frombuffer(b"\0".join(names), np.uint8)


SUFFIXES = to_bytes([suffix.encode() for suffix in IMAGE_SUFFIXES])
