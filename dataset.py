# SPDX-License-Identifier: Apache-2.0
"""From a folder of images to normalised batches on the device: ImageDataset, EpochSampler, the two prefetchers."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, UntypedStorage
from torch.utils.data import DataLoader, Dataset, Sampler

from core.folders import check_classes, describe_folder, list_classes
from core.frozen_outputs import Outputs
from core.image_cache import ImageCache, free_memory
from core.image_files import load_image, read_size
from core.image_index import check_counts, read_index, scan_folder
from core.loader_workers import BATCHES_OF_WORKER, Batch, Stack, check_readable, prepare_workers, start_worker
from core.pixels import Image
from core.plurals import counted
from core.spare_cores import adapt_threads
from imgproc import normalize

__all__ = [
    "CPUPrefetcher",
    "CUDAPrefetcher",
    "EpochSampler",
    "ImageDataset",
    "NumberedImages",
    "OutputBatches",
    "cache_images",
    "create_batches",
    "numbered_passes",
]

Loader = DataLoader[Any]
Key = tuple[int, int]


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

    target_bytes = 8  # of an image in a batch: its class, int64

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
    """Iterates over normalised batches on the CPU: float32 [N, 3, S, S] channels_last, and what is to be found.

    That is int64 [N] of a classifier, and of other tasks what their dataset gives, stacked.

    mean, std: of each channel, as shares of white (0..1).
    """

    shows_images = True

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
            adapt_threads()
            yield self._prepare(images), targets.clone()

    def _loaded(self) -> Iterator[Batch]:
        """What the workers hand over, to be used before the next: uint8 [N, S, S, 3] and the targets."""
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


class NumberedImages(Dataset[tuple[Image, int]]):
    """The images of an ImageDataset with the number view * len + index of each in place of its class; in order.

    One that cannot be read, and is to be left out, is black and has the number -1.
    """

    seed = None

    def __init__(self, images: ImageDataset, image_size: int) -> None:
        self.images, self.root = images, images.root
        self.black = np.zeros((image_size, image_size, 3), np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> tuple[Image, int]:
        view, index = key
        item = self.images[key]
        return (item[0], view * len(self) + index) if item else (self.black, -1)


def numbered_passes(batches: CPUPrefetcher, views: int) -> Iterator[Batch]:
    """The batches of NumberedImages, view by view: the images are those that epochs 0 .. views - 1 would have."""
    for view in range(views):
        batches.set_epoch(view)
        yield from batches


class OutputBatches(CPUPrefetcher):
    """The batches of another prefetcher, with kept outputs of frozen blocks for images: float32 [N, C, h, w].

    Epoch e has view e modulo the number of views.
    """

    shows_images = False

    def __init__(self, batches: CPUPrefetcher, outputs: Outputs) -> None:
        super().__init__(batches.loader, batches.mean.tolist(), batches.std.tolist(), batches.device)
        self.outputs = outputs

    def start(self) -> None:
        """Nothing: there are no workers."""

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.sampler:
            adapt_threads()
            view = keys[0][0] % self.outputs.views
            rows, found = self.outputs.take(view, [index for _, index in keys])
            check_readable(len(found), len(keys))
            targets = torch.from_numpy(self.dataset.targets[found].astype(np.int64))
            yield rows.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)


def create_batches(
    dataset: Any,
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

    `dataset`: with `root`, what it is called, and `seed`, None for what is taken in order. `as_levels`: uint8 batches
    for networks that normalise themselves, on the CPU; else they are normalised. `on_worker_start`: called in each
    worker.
    Raises: ValueError if a training set is smaller than one step.
    """
    sampler = EpochSampler(len(dataset), batch_size, dataset.seed, rank, num_processes)
    if dataset.seed is not None and not len(sampler):
        times = f" in each of {num_processes} processes" if num_processes > 1 else ""
        raise ValueError(
            f"{dataset.root}: {counted(len(dataset), 'image')}, fewer than batch_size = {batch_size}{times}; lower it"
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
        multiprocessing_context=prepare_workers(num_workers),
    )
    on_cpu = LevelPrefetcher if as_levels else CPUPrefetcher
    return (CUDAPrefetcher if device.type == "cuda" else on_cpu)(loader, mean, std, device)
