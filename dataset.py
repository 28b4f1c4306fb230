# SPDX-License-Identifier: Apache-2.0
"""From a folder of images to normalised batches on the device: ImageDataset, EpochSampler, the two prefetchers."""

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, UntypedStorage
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from core.folders import check_classes, describe_folder, list_classes
from core.image_cache import ImageCache, free_memory
from core.image_files import load_image, read_size
from core.image_index import check_counts, read_index, scan_folder
from core.pixels import Image
from imgproc import normalize

__all__ = [
    "CPUPrefetcher",
    "CUDAPrefetcher",
    "EpochSampler",
    "ImageDataset",
    "cache_images",
    "create_batches",
]

Batch = tuple[Tensor, Tensor]
Loader = DataLoader[Any]
Key = tuple[int, int]
BATCHES_OF_WORKER = 3  # two that it prepares ahead, and one in use


def create_generator(seed: int, *key: int) -> np.random.Generator:
    """A random generator that is a function of its arguments alone; keys of different length never coincide."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


class ImageDataset(Dataset[tuple[Image, int] | None]):
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

    def __init__(self, loader: Loader, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
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
        return cast(ImageDataset, self.loader.dataset)

    @property
    def sampler(self) -> EpochSampler:
        return cast(EpochSampler, self.loader.batch_sampler)

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """Choose the order and the augmentation of the next pass, and the batch it begins with."""
        self.started = None  # it would be a pass of the order before
        self.sampler.epoch, self.sampler.position = epoch, position

    def files(self, number: int) -> list[str]:
        """The images of one batch of the epoch."""
        return [self.dataset.path(index) for index in self.sampler.indices(number)]

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


class LevelPrefetcher(CPUPrefetcher):
    """Iterates over the batches as loaded: uint8 levels [N, S, S, 3] and int64 [N], on the CPU."""

    def _prepare(self, images: Tensor) -> Tensor:
        return images.clone()


class CUDAPrefetcher(CPUPrefetcher):
    """The same batches on a GPU: copied and normalised on a side stream while the previous step is running."""

    def __init__(self, loader: Loader, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
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
    as_levels: bool = False,
) -> CPUPrefetcher:
    """The loader of one split for one of `num_processes`, in the order of EpochSampler.

    `as_levels`: uint8 batches for networks that normalise themselves, on the CPU; else they are normalised.

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
    on_cpu = LevelPrefetcher if as_levels else CPUPrefetcher
    return (CUDAPrefetcher if device.type == "cuda" else on_cpu)(loader, mean, std, device)


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
        images_place, targets_place = (place[: len(readable)] for place in self.places[self.batches % len(self.places)])
        self.batches += 1
        np.stack(images, out=images_place.numpy())
        np.stack(targets, out=targets_place.numpy())
        return images_place, targets_place

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
