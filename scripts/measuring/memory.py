# SPDX-License-Identifier: Apache-2.0
"""The part memory of benchmark.py: the peak of a whole training run, and the largest batch that a memory holds."""

import argparse
import contextlib
import multiprocessing
import os
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from measuring.images import IMAGE_SIZE
from measuring.networks import BASELINE, CPU, left_out, precisions
from measuring.timing import Comparison, alternate
from measuring.training_steps import torchvision_steps, train_steps
from measuring.whole_runs import TRAIN_BATCH, photo_runs
from shared.processes import descendants
from shared.processes import memory as memory_of

LOOK_SECONDS = 0.1  # from one look at all processes to the next
LIMIT = 8 * 2**30  # bytes that the largest batch has
BATCH_STEP, MOST = 8, 1024  # images: to which the largest batch is found, and where the search ends
STEPS = 2  # of training; the second has gradients and momentum


def memory(options: argparse.Namespace) -> Iterator[Comparison]:
    """How much memory train.py takes, against the plain loop, and how large its batches may be."""
    with tempfile.TemporaryDirectory() as name:
        candidates, images = photo_runs(options, Path(name))
        peaks = alternate(candidates, options.rounds, peak_mebibytes)
    title = f"peak memory of all processes, one epoch of {images} photos, {IMAGE_SIZE} px, batch {TRAIN_BATCH}"
    yield Comparison(title, list(candidates)[1:], "torchvision", peaks, images, "MiB", missing=left_out())
    yield compare_largest_batches()


def peak_mebibytes(action: Callable[[], object]) -> float:
    """The most that the processes which an action starts had together: what several share counts once."""
    peak, is_over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(LOOK_SECONDS):
            peak = max(peak, sum(map(share_of_memory, descendants(os.getpid()))))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        action()
    finally:
        is_over.set()
        watching.join()
    return peak / 2**20


def share_of_memory(pid: int) -> int:
    """Bytes: its proportional set size; 0 if it has ended."""
    with contextlib.suppress(OSError):
        return memory_of(pid, "Pss:")
    return 0


def compare_largest_batches() -> Comparison:
    """Training steps on random data, each batch in a new process: the images of the largest one within LIMIT."""
    candidates = {
        BASELINE: largest_batch(torchvision_steps, torch.float32),
        **{f"train.py, {precision}": largest_batch(train_steps, precision) for precision in precisions()},
    }
    title = f"largest batch of training steps within {LIMIT / 2**30:.0f} GiB, {IMAGE_SIZE} px"
    shares = {name: [1 / batch] for name, batch in candidates.items()}  # of the limit, of one image
    return Comparison(title, list(candidates)[1:], BASELINE, shares, 1, "images", missing=left_out())


def largest_batch(build: Callable[..., Callable[[], object]], precision: object) -> int:
    """By halving what is left, a multiple of BATCH_STEP. Raises: ValueError if not even that much fits."""
    fits, too_large = 0, MOST // BATCH_STEP
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        is_within = peak_of_steps(build, middle * BATCH_STEP, precision) <= LIMIT
        fits, too_large = (middle, too_large) if is_within else (fits, middle)
    if not fits:
        raise ValueError(f"a batch of {BATCH_STEP} images does not train here within {LIMIT / 2**30:.0f} GiB")
    return fits * BATCH_STEP


def peak_of_steps(build: Callable[..., Callable[[], object]], batch: int, precision: object) -> int:
    """Bytes that a new process had at its peak; more than LIMIT if it did not come to its end."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=run_steps, args=(sending, build, batch, precision))
    process.start()
    sending.close()
    peak = LIMIT + 1
    with contextlib.suppress(EOFError):
        peak = receiving.recv()
    process.join()
    return peak


def run_steps(
    connection: Connection, build: Callable[..., Callable[[], object]], batch: int, precision: object
) -> None:
    """Send the peak of this process; it ends without if it asks for much more than LIMIT."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT + LIMIT // 2, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    with contextlib.suppress(RuntimeError, MemoryError):  # no more memory
        build(CPU, batch, STEPS, precision)()
        connection.send(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
