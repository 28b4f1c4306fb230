# SPDX-License-Identifier: Apache-2.0
"""From a folder of images to normalised batches on the device: ImageDataset, EpochSampler, the two prefetchers."""

import contextlib
import json
import math
import mmap
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import cv2
import numpy as np
import torch
from torch import Tensor, UntypedStorage
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from core.split_names import UNNAMED, split_names
from imgproc import (
    IMAGE_SUFFIXES,
    Image,
    describe_left_out,
    is_left_out,
    kind_of_name,
    load_image,
    normalize,
    read_size,
)

__all__ = [
    "CPUPrefetcher",
    "CUDAPrefetcher",
    "EpochSampler",
    "ImageCache",
    "ImageDataset",
    "cache_images",
    "create_batches",
    "describe_left_out",
    "describe_order",
    "list_class",
    "list_classes",
    "read_index",
    "shorten",
    "write_index",
]

Batch = tuple[Tensor, Tensor]
Key = tuple[int, int]
BATCHES_OF_WORKER = 3  # two that it prepares ahead, and one in use


def create_generator(seed: int, *key: int) -> np.random.Generator:
    """A random generator that is a function of its arguments alone; keys of different length never coincide."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


class ImageDataset(Dataset):
    """Images of <root>/<class>/**/<image>, in sorted order; the class index is the place of the class folder.

    `classes`: the names of the classes by index, for another order than that of list_classes(); each must have its
    folder, unless `may_lack_classes`. `notes`: lines about the folder that people should see.
    `apply_orientation`: turn each image upright as its camera noted.
    dataset[epoch, index] -> (uint8 [S, S, 3], class index). With a `seed` (training) the transform is called as
    (image, generator), the generator being a function of (seed, epoch, index); without one as (image).
    An unreadable image raises ValueError or OSError; with `skip_bad` its item is None, which collate() leaves out.
    Names lie in one byte buffer: a list of strings would be copied into every worker as it is read.
    `cache`: set by cache_images(); None reads the file every time.
    Raises: FileNotFoundError if a folder or its images are missing; ValueError if the classes are not those of
    `classes` or not `num_classes`, are fewer than two, or if splits stand among them.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Callable[..., Image],
        *,
        num_classes: int,
        classes: Sequence[str] | None = None,
        may_lack_classes: bool = False,
        seed: int | None = None,
        skip_bad: bool = False,
        apply_orientation: bool = False,
    ) -> None:
        self.root, self.transform, self.seed, self.skip_bad = str(root), transform, seed, skip_bad
        self.apply_orientation = apply_orientation
        folders = list_classes(self.root)
        check_classes(self.root, folders, num_classes, classes, may_lack_classes)
        self.classes = list(classes or folders)
        index = read_index(self.root)
        if index is None or index.classes != folders:
            index = scan_folder(self.root)
        check_counts(self.root, index)
        self.names = index.names
        self.offsets = np.concatenate([[0], np.cumsum(index.lengths, dtype=np.int64)])
        places = {name: place for place, name in enumerate(self.classes)}
        self.targets = np.repeat(np.array([places[name] for name in folders], np.int32), index.counts)
        self.left_out = index.left_out
        self.notes = describe_folder(self.root, folders, classes, index.left_out)
        self.cache: ImageCache | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def path(self, index: int) -> str:
        """The file of one image."""
        name = os.fsdecode(self.names[self.offsets[index] : self.offsets[index + 1]].tobytes())
        return os.path.join(self.root, self.classes[self.targets[index]], name)

    def decoded(self, index: int) -> Image:
        """One image as its file holds it, uint8 [H, W, 3], to read and not to change. Raises: ValueError, OSError."""
        image = self.cache.get(index) if self.cache else None
        if image is None:
            image = load_image(self.path(index), self.apply_orientation)
            if self.cache:
                self.cache.put(index, image)
        return image

    def __getitem__(self, key: Key) -> tuple[Image, int] | None:
        epoch, index = key
        try:
            image = self.decoded(index)
        except (ValueError, OSError):  # OSError: a link to nothing, no permission
            if self.skip_bad:
                return None
            raise
        if self.seed is None:
            image = self.transform(image)
        else:
            image = self.transform(image, create_generator(self.seed, epoch, index))
        return image, int(self.targets[index])


class ImageCache:
    """Decoded images in memory that a process shares with the workers it forks: who decodes one first leaves it to all.

    sizes: int64 [N, 2], height and width of each image by its header; one that is decoded to another size is not kept.
    The memory belongs to no file, so the system frees it however the processes end.
    """

    def __init__(self, sizes: np.ndarray) -> None:
        self.sizes = sizes
        self.offsets = np.concatenate([[0], np.cumsum(3 * sizes.prod(axis=1))])
        self.pixels = np.frombuffer(mmap.mmap(-1, max(1, int(self.offsets[-1]))), np.uint8)
        self.is_filled = np.frombuffer(mmap.mmap(-1, len(sizes)), np.bool_)

    def get(self, index: int) -> Image | None:
        """The image, or None if nobody has put it in. It lies in the cache: to read and not to change."""
        return self._place(index) if self.is_filled[index] else None

    def put(self, index: int, image: Image) -> None:
        """Keep a copy."""
        place = self._place(index)
        if place.shape == image.shape:
            place[...] = image
            # After the pixels. An image comes once in an epoch, so no other process looks before the next one, and
            # between the two lie the queues of the loader.
            self.is_filled[index] = True

    def _place(self, index: int) -> Image:
        return self.pixels[self.offsets[index] : self.offsets[index + 1]].reshape(*self.sizes[index], 3)

    def __reduce__(self) -> NoReturn:
        """Raise ValueError: a worker that is not forked would get a copy of its own."""
        raise ValueError(
            "cache_images = True needs workers that can be forked, as on Linux; set num_workers = 0, or cache_images = "
            "False, in config.py"
        )


def cache_images(datasets: Sequence[ImageDataset], num_processes: int, asked_by: str) -> None:
    """Let the datasets keep the decoded images in memory, before their workers start; read the size of each now.

    num_processes: how many on this machine do the same, each for itself. asked_by: begins the error message.
    Raises: ValueError if they would take more than three quarters of the free memory.
    """
    sizes = [image_sizes(dataset) for dataset in datasets]
    needed = num_processes * sum(3 * each.prod(axis=1).sum().item() for each in sizes)
    free = free_memory()
    if needed > 0.75 * free:  # the rest is for the training itself
        raise ValueError(
            f"{asked_by} needs {needed / 2**20:.0f} MiB for {num_processes * sum(map(len, sizes))} decoded images, and "
            f"may take three quarters of the {free / 2**20:.0f} MiB of free memory; set it to False, or store the "
            "images smaller (scripts/prepare_dataset.py --short-side)"
        )
    for dataset, each in zip(datasets, sizes, strict=True):
        dataset.cache = ImageCache(each)


def image_sizes(dataset: ImageDataset) -> np.ndarray:
    """The height and width of each image by its header, int64 [N, 2]; 0 and 0 for a file that cannot be read."""
    sizes = np.zeros((len(dataset), 2), np.int64)
    for index in range(len(dataset)):
        with contextlib.suppress(ValueError, OSError):  # reported when its turn comes, or left out
            sizes[index] = read_size(dataset.path(index), dataset.apply_orientation)
    return sizes


def free_memory() -> float:
    """The bytes that programs can still take, within the limit of a container; infinite if the system does not say."""
    free = math.inf
    with contextlib.suppress(OSError):
        free = 1024 * int(re.search(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())[1])
    with contextlib.suppress(OSError, ValueError):  # no such limit: no such file, or the word max
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        # pages of files count as used, but make room
        pages = re.findall(r"^(?:in)?active_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
        free = min(free, limit - used + sum(map(int, pages)))
    return free


def list_classes(root: str) -> list[str]:
    """The sorted names of the class folders; just the numbers 0 to C-1 or 1 to C come in the order of the numbers.

    Raises: FileNotFoundError if there is none.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{root}: no such folder; data/README.md says how to make each dataset")
    classes = visible_folders(root)
    if not classes:
        raise FileNotFoundError(f"{root}: no class folders; expected {root}/<class>/<image>")
    for first in (0, 1):
        numbers = [str(number) for number in range(first, first + len(classes))]
        if sorted(numbers) == classes:
            return numbers
    return classes


def visible_folders(folder: str) -> list[str]:
    """The sorted names of the folders in a folder, but for hidden ones."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def describe_order(classes: Sequence[str]) -> str:
    """A line about classes of list_classes() that come in the order of their numbers, as text does not; else ""."""
    if list(classes) == sorted(classes):
        return ""
    return f"class folders {classes[0]} ... {classes[-1]} are taken in the order of their numbers"


def check_classes(
    root: str, found: list[str], num_classes: int, expected: Sequence[str] | None, may_lack_classes: bool = False
) -> None:
    """Raise ValueError unless the class folders are the expected ones: otherwise labels shift silently."""
    doubt = describe_doubt(root, found)
    if len(expected or found) < 2:
        raise ValueError(
            f"{root}: one class folder, {shorten(found)}, and a classifier needs two; is this the folder above the "
            f"class folders{doubt}?"
        )
    if expected is not None:
        missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        if unknown or (missing and not may_lack_classes):
            raise ValueError(
                f"{root}: its class folders are not those of the training set: missing {missing[:3]}, unknown "
                f"{unknown[:3]} ({len(missing)} and {len(unknown)} in all){doubt}; name another folder, or correct "
                "the names of these"
            )
    elif len(found) != num_classes:
        raise ValueError(
            f"{root}: {len(found)} class folders ({shorten(found)}), but model_num_classes = {num_classes}; are these "
            f"the classes{doubt}? If so, set it to {len(found)}; if not, name the folder that holds the class folders"
        )
    elif has_splits(root, found):
        raise ValueError(
            f"{root}: splits among the class folders{doubt}; name the folder that holds the class folders, or rename "
            "a class that is really called so"
        )


def has_splits(root: str, found: list[str]) -> bool:
    """Whether two of the folders are called as splits are, or one that is holds folders called like those beside it."""
    splits = split_names(found)
    return len(splits) > 1 or any(set(found) & set(visible_folders(os.path.join(root, name))) for name in splits)


def unlikely_classes(found: list[str]) -> list[str]:
    """The folders that are called as splits are, or as the system calls a new folder."""
    splits = split_names(found)
    return [name for name in found if name in splits or UNNAMED.fullmatch(name)]


def describe_doubt(root: str, found: list[str]) -> str:
    """What speaks against taking these folders for classes, in brackets; "" if nothing does."""
    unlikely = unlikely_classes(found)
    reasons = [f"{shorten(unlikely)}: not names of classes"] if unlikely else []
    if unlikely or len(found) == 1:
        above = (unlikely or found)[0]
        inside = visible_folders(os.path.join(root, above))
        reasons += [f"the folders in {shorten([above])} are {shorten(inside)}"] if inside else []
    return f" ({'; '.join(reasons)})" if reasons else ""


def shorten(names: Sequence[str]) -> str:
    """The first three names, in one line that every terminal can show."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:3]]
    return ", ".join(shown) + (" ..." if len(names) > 3 else "")


def check_counts(root: str, index: "Index") -> None:
    """Raise FileNotFoundError for a class folder without images, with what it holds instead."""
    for name, count in zip(index.classes, index.counts, strict=True):
        if count == 0:
            left_out = list_class(os.path.join(root, name))[1]
            instead = f", but {describe_left_out(left_out)}" if left_out else ""
            raise FileNotFoundError(
                f"{root}/{name}: no images ({', '.join(IMAGE_SUFFIXES)}){instead}; add some or remove the folder"
            )


def describe_folder(root: str, found: list[str], expected: Sequence[str] | None, left_out: Counter[str]) -> list[str]:
    """Lines about a folder that people should see: what is left out, the order of the classes, what is doubtful."""
    lines, held = [], set(found)
    missing = [name for name in expected or () if name not in held]
    if left_out:
        lines.append(f"left out {describe_left_out(left_out)}; the names of images end in {', '.join(IMAGE_SUFFIXES)}")
    if expected is None:
        lines += [order] if (order := describe_order(found)) else []
        unlikely = unlikely_classes(found)
        lines += [f"{shorten([name])} is taken for a class; if it is none, move it elsewhere" for name in unlikely]
    if missing:
        lines.append(
            f"{len(found)} of the weights' {len(expected)} classes have images here; {len(missing)} without: "
            f"{shorten(missing)}"
        )
    return [f"{root}: {line}" for line in lines]


def walk_class(class_dir: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield (folder, its images, its other visible files) for a class folder and all folders below it, by name.

    Raises: ValueError for a link back to a folder above it; OSError for a folder that cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error  # a folder that cannot be read would otherwise be left out silently

    above: dict[str, frozenset[tuple[int, int]]] = {class_dir: frozenset()}
    for folder, subfolders, files in os.walk(class_dir, onerror=fail, followlinks=True):
        status = os.stat(folder)
        inside = above.pop(folder) | {(status.st_dev, status.st_ino)}
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in subfolders:
            path = os.path.join(folder, name)
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in inside:
                raise ValueError(f"{path}: leads back to a folder above it; remove the link")
            above[path] = inside
        images = [file for file in files if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith(".")]
        yield folder, images, [file for file in files if is_left_out(file)]


def list_class(class_dir: str) -> tuple[list[bytes], Counter[str]]:
    """All below a class folder: the sorted names of images, relative to it, and the other visible files by suffix."""
    images, left_out = [], Counter()
    for folder, files, others in walk_class(class_dir):
        prefix = os.path.relpath(folder, class_dir) + os.sep if folder != class_dir else ""
        images += [os.fsencode(prefix + file) for file in files]
        left_out.update(map(kind_of_name, others))
    return sorted(images), left_out


def list_images(class_dir: str) -> list[bytes]:
    """The sorted names of all images below a class folder, relative to it."""
    return list_class(class_dir)[0]


class Index(NamedTuple):
    """The images of a folder of class folders, in sorted order; for 1.28 million of them about 30 MB."""

    classes: list[str]  # of list_classes(), in whose order the images come
    counts: np.ndarray  # int64 [C]: images of each class
    lengths: np.ndarray  # uint16 [N]: bytes of each name
    names: np.ndarray  # uint8 [sum of lengths]: the names below their class folders, one after the other
    left_out: Counter[str]  # what describe_left_out() takes


def scan_folder(root: str) -> Index:
    """List every image on disk, and count what else lies there."""
    classes, left_out = list_classes(root), Counter()
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


class EpochSampler(Sampler[list[Key]]):
    """Yields the keys (epoch, index) of each batch of one process; set `epoch` and `position` before iterating.

    Training (with a seed): shuffled by (seed, epoch). A step takes batch_size images for each process, one process
    after the other, so that the order is that of a single process with the larger batch; a last partial step is
    dropped. Evaluation: in order, the batches dealt out in turn, so that every image counts once.
    `position`: the batches that are done already. The keys carry the epoch, so workers need no state of their own.
    """

    def __init__(
        self, num_images: int, batch_size: int, seed: int | None = None, rank: int = 0, num_processes: int = 1
    ) -> None:
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        step = batch_size * num_processes
        end = num_images if seed is None else num_images - num_images % step
        self.starts = range(rank * batch_size, end, step)
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self.order()
        return ([(self.epoch, index) for index in self._batch(order, n)] for n in range(self.position, len(self)))

    def order(self) -> np.ndarray:
        """The images of the epoch as they come."""
        order = np.arange(self.num_images)
        if self.seed is not None:
            create_generator(self.seed, self.epoch).shuffle(order)
        return order

    def indices(self, number: int) -> list[int]:
        """The images of one batch of the epoch."""
        return self._batch(self.order(), number)

    def _batch(self, order: np.ndarray, number: int) -> list[int]:
        return order[self.starts[number] :][: self.batch_size].tolist()


class CPUPrefetcher:
    """Iterates over normalised batches: float32 [N, 3, S, S] channels_last and int64 [N], on the CPU.

    mean, std: of each channel, as shares of white (0..1).
    """

    def __init__(self, loader: DataLoader, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.loader, self.device = loader, device
        self.mean, self.std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.started: Iterator[Batch] | None = None
        self.mapped: dict[int, UntypedStorage] = {}  # what Stack uses again: let go, it would be mapped for each batch

    def start(self) -> None:
        """Start the workers, which load the first batches of the next pass and wait.

        If they are forked only after a training epoch, they hold all its memory: whatever of it the training then
        writes is copied first.
        """
        self.started = iter(self.loader)

    @property
    def dataset(self) -> ImageDataset:
        return self.loader.dataset

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """Choose the order and the augmentation of the next pass, and the batch it begins with."""
        self.started = None  # it would be a pass of the order before
        self.loader.batch_sampler.epoch, self.loader.batch_sampler.position = epoch, position

    def files(self, number: int) -> list[str]:
        """The images of one batch of the epoch."""
        return [self.dataset.path(index) for index in self.loader.batch_sampler.indices(number)]

    def __len__(self) -> int:
        """The batches of a whole epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for images, targets in self._loaded():
            yield self._prepare(images), targets.clone()

    def _loaded(self) -> Iterator[Batch]:
        """What the workers hand over, to be used before the next: uint8 [N, S, S, 3] and int64 [N]."""
        batches = iter(self.loader) if self.started is None else self.started
        self.started = None
        try:
            for images, targets in batches:
                if images.is_shared():
                    memory = images.untyped_storage()
                    self.mapped[memory.data_ptr()] = memory
                yield images, targets
        except Exception as error:
            if self.loader.num_workers == 0:
                raise
            # The error of a worker refers to itself by its traceback, and so to the loader. Python would end the queues
            # of such a loader before the loader itself, which could then not tell its workers to end.
            raise error.with_traceback(None) from None

    def _prepare(self, images: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] on the device -> float32 [N, 3, S, S]; the permuted view is channels_last already."""
        return normalize(images.permute(0, 3, 1, 2), self.mean, self.std)


class CUDAPrefetcher(CPUPrefetcher):
    """The same batches on a GPU: copied and normalised on a side stream while the previous step is running."""

    def __init__(self, loader: DataLoader, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        if not loader.pin_memory:  # from other memory it is copied later, when the workers may have written there again
            raise ValueError("a loader of batches for a GPU needs pin_memory = True")
        super().__init__(loader, mean, std, device)
        # One for all passes: the memory of a batch is reused only on the stream it was made on.
        self.stream = torch.cuda.Stream(device)
        self.stream.wait_stream(torch.cuda.current_stream(device))  # mean and std were made there

    def __iter__(self) -> Iterator[Batch]:
        current = None
        for images, targets in self._loaded():
            with torch.cuda.stream(self.stream):
                images = self._prepare(images.to(self.device, non_blocking=True))
                targets = targets.to(self.device, non_blocking=True)
            if current is not None:
                yield current
            current = self._claim(images, targets)
        if current is not None:  # an empty loader yields nothing
            yield current

    def _claim(self, images: Tensor, targets: Tensor) -> Batch:
        """Let the main stream wait for the side stream and own the tensors it made."""
        main_stream = torch.cuda.current_stream(self.device)
        main_stream.wait_stream(self.stream)
        for tensor in (images, targets):
            tensor.record_stream(main_stream)  # else their memory could be reused while the step reads it
        return images, targets


def create_batches(
    dataset: ImageDataset,
    *,
    batch_size: int,
    num_workers: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    rank: int = 0,
    num_processes: int = 1,
    on_worker_start: Callable[[], None] | None = None,
) -> CPUPrefetcher:
    """The loader of one split for one of `num_processes`, in the order of EpochSampler.

    `on_worker_start`: called in each worker.
    Raises: ValueError if a training set is smaller than one step.
    """
    sampler = EpochSampler(len(dataset), batch_size, dataset.seed, rank, num_processes)
    if dataset.seed is not None and not len(sampler):
        times = f" in each of {num_processes} processes" if num_processes > 1 else ""
        raise ValueError(
            f"{dataset.root}: {len(dataset)} images, fewer than batch_size = {batch_size}{times}; lower it"
        )
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=Stack(batch_size),
        prefetch_factor=BATCHES_OF_WORKER - 1 if num_workers > 0 else None,
        pin_memory=device.type == "cuda",
        persistent_workers=num_workers > 0,
        worker_init_fn=partial(start_worker, on_start=on_worker_start),
        # Starts in a twentieth of the time, and shares the memory of the dataset; Python 3.14 would no longer do it.
        multiprocessing_context="fork" if num_workers > 0 and sys.platform == "linux" else None,
    )
    return (CUDAPrefetcher if device.type == "cuda" else CPUPrefetcher)(loader, mean, std, device)


class Stack:
    """Makes batches of samples: uint8 [N, S, S, 3] and int64 [N], with N smaller if some could not be read.

    A worker uses the same places of shared memory again and again: paging in new ones takes ten times as long as the
    copying. So a batch may be overwritten as soon as the next one has been taken from the loader.
    Raises: ValueError if the samples leave fewer than 2, of which batch-norm cannot learn.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.places: list[Batch] = []  # of one worker
        self.batches = 0

    def __call__(self, samples: list[tuple[Image, int] | None]) -> Batch:
        readable = [sample for sample in samples if sample is not None]
        if len(readable) < min(2, len(samples)):
            raise ValueError(
                f"fewer than 2 of {len(samples)} images of a batch can be read, and batch-norm needs 2; raise "
                "batch_size, or remove those that scripts/check_dataset.py names"
            )
        images, targets = zip(*readable, strict=True)
        if get_worker_info() is None:
            return torch.from_numpy(np.stack(images)), torch.tensor(targets)
        if not self.places:
            self.places = self._create_places(images[0].shape)
        batch = tuple(place[: len(readable)] for place in self.places[self.batches % len(self.places)])
        self.batches += 1
        for values, place in zip((images, targets), batch, strict=True):
            np.stack(values, out=place.numpy())
        return batch

    def _create_places(self, shape: tuple[int, ...]) -> list[Batch]:
        """For whole batches, all in one segment of shared memory: each segment is an open file."""
        end = 8 * BATCHES_OF_WORKER * self.batch_size  # of the targets, first so that they are aligned
        size = BATCHES_OF_WORKER * self.batch_size * math.prod(shape)
        memory = torch.empty(end + size, dtype=torch.uint8).share_memory_()
        images = memory[end:].view(BATCHES_OF_WORKER, self.batch_size, *shape)
        targets = memory[:end].view(torch.int64).view(BATCHES_OF_WORKER, self.batch_size)
        return list(zip(images, targets, strict=True))


def start_worker(worker_id: int, on_start: Callable[[], None] | None) -> None:
    """One thread a worker; unreadable files and signals to the whole group are the main process's to answer."""
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if on_start:
        on_start()
