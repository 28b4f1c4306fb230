# SPDX-License-Identifier: Apache-2.0
"""What a loader worker does besides reading images: how it starts, and how it hands over batches."""

import math
import multiprocessing.util
import signal
import sys
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from core.pixels import Image

Sample = tuple[Image, int | np.ndarray]
Batch = tuple[Tensor, Tensor]
BATCHES_OF_WORKER = 3  # two that it prepares ahead, and one in use


class Stack:
    """Makes batches of samples: uint8 [N, S, S, 3] and int64 [N], with N smaller if some could not be read.

    Targets that are arrays of one shape, like masks, are stacked as they are.
    A worker uses the same places of shared memory again and again: paging in new ones takes ten times as long as the
    copying. So a batch may be overwritten as soon as the next one has been taken from the loader.
    Raises: ValueError if the samples leave fewer than 2, of which batch-norm cannot learn.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.places: list[Batch] = []  # of one worker
        self.batches = 0

    def __call__(self, samples: list[Sample | None]) -> Batch:
        readable = [sample for sample in samples if sample is not None]
        check_readable(len(readable), len(samples))
        images, targets = zip(*readable, strict=True)
        if get_worker_info() is None:
            return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(targets))
        if not self.places:
            self.places = self._create_places(images[0].shape, np.asarray(targets[0]))
        images_place, targets_place = (place[: len(readable)] for place in self.places[self.batches % len(self.places)])
        self.batches += 1
        np.stack(images, out=images_place.numpy())
        np.stack(targets, out=targets_place.numpy())
        return images_place, targets_place

    def _create_places(self, shape: tuple[int, ...], target: np.ndarray) -> list[Batch]:
        """For whole batches, all in one segment of shared memory: each segment is an open file."""
        end = target.nbytes * BATCHES_OF_WORKER * self.batch_size  # of the targets, first so that they are aligned
        size = BATCHES_OF_WORKER * self.batch_size * math.prod(shape)
        memory = torch.empty(end + size, dtype=torch.uint8).share_memory_()
        images = memory[end:].view(BATCHES_OF_WORKER, self.batch_size, *shape)
        kind = torch.from_numpy(np.empty(0, target.dtype)).dtype
        targets = memory[:end].view(kind).view(BATCHES_OF_WORKER, self.batch_size, *target.shape)
        return list(zip(images, targets, strict=True))


def check_readable(readable: int, images: int) -> None:
    """Raise ValueError if too few images of a batch are left."""
    if readable < min(2, images):
        few = f"fewer than 2 of {images} images of a batch can be read, and batch-norm needs 2"
        what = few if images > 1 else "the only image of a batch cannot be read"
        raise ValueError(f"{what}; raise batch_size, or remove those that scripts/check_dataset.py names")


def prepare_workers(num_workers: int) -> str | None:
    """What a DataLoader takes for `multiprocessing_context`.

    Workers that start afterwards put their sockets where this process does, which removes them at its end; each has a
    folder of its own otherwise, and one that is killed leaves it behind.
    """
    if num_workers > 0:
        multiprocessing.util.get_temp_dir()
    # Starts in a twentieth of the time, and shares the memory of the dataset; Python 3.14 would no longer do it.
    return "fork" if num_workers > 0 and sys.platform == "linux" else None


def start_worker(worker_id: int, on_start: Callable[[], None] | None) -> None:
    """One thread a worker; unreadable files and signals to the whole group are the main process's to answer."""
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if on_start:
        on_start()
