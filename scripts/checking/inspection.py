# SPDX-License-Identifier: Apache-2.0
"""Decoding every image as training does, in one process a core, and describing it."""

import hashlib
import io
import multiprocessing
import os
import re
import signal
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from checking.images import ImageFiles
from core.image_files import decode_image, known_kind, read_orientation

CHUNK_IMAGES = 32  # sent to a worker at once: large enough that sending costs nothing, small enough to stop soon
OPENCV_PREFIX = re.compile(r"^\[ *\w+:\d+@[\d.]+\] \S+ \S+ \S+ ")  # with the time, so that no two runs are the same
KILLED = "the process that decoded it was killed, for lack of memory or by a defect of the decoder; remove the file"


class Finding(NamedTuple):
    """What a worker found in one image file."""

    error: str  # empty if it loads
    complaint: str = ""  # what the decoder said, though it gave a picture
    kind: str = ""  # of the content: a key of KIND_SUFFIXES
    mode: str = ""  # Pillow's name: RGB, L, CMYK, ...
    orientation: int = 1  # as the camera noted it; 1 is upright
    is_single_colour: bool = False
    width: int = 0
    height: int = 0
    digest: bytes = b"\0" * 16


def inspect_all(dataset: ImageFiles) -> Iterator[Finding]:
    """The findings of all images in their order, from one process a core.

    Few chunks are under way at a time. When a process is killed, the chunks that were lost are inspected again, image
    by image, so that the one that kills is known by name.
    """
    starts = iter(range(0, len(dataset), CHUNK_IMAGES))
    while True:
        pending: deque[Chunk] = deque()
        pool = start_workers(count_cores())
        try:
            for findings in inspect_chunks(pool, dataset, starts, pending):
                yield from findings
            pool.shutdown()
            return
        except BrokenProcessPool:
            pool.shutdown()
        yield from inspect_singly(dataset.path(index) for images, _ in pending for index in images)


Chunk = tuple[range, Future[list[Finding]]]


def inspect_chunks(
    pool: ProcessPoolExecutor, dataset: ImageFiles, starts: Iterator[int], pending: deque[Chunk]
) -> Iterator[list[Finding]]:
    """Yield the findings of each chunk in order; `pending` holds those not yet yielded."""
    while True:
        while len(pending) < 4 * count_cores() and (start := next(starts, None)) is not None:
            images = range(start, min(start + CHUNK_IMAGES, len(dataset)))
            pending.append((images, Future()))  # noted first: a broken pool takes nothing and raises
            pending[-1] = images, pool.submit(inspect_images, [dataset.path(index) for index in images])
        if not pending:
            return
        findings = pending[0][1].result()
        pending.popleft()
        yield findings


def inspect_singly(paths: Iterable[str]) -> Iterator[Finding]:
    """The findings of some images, one after the other; a process that is killed takes only its image with it."""
    pool = start_workers(1)
    for path in paths:
        try:
            yield pool.submit(inspect_images, [path]).result()[0]
        except BrokenProcessPool:
            pool = start_workers(1)
            yield Finding(KILLED)
    pool.shutdown()


def start_workers(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, initializer=start_worker)


def count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker() -> None:
    """One thread a process; Ctrl-C is the main process's; what the decoders say on stderr goes into a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)  # libtiff speaks through it
    warnings.simplefilter("ignore")  # Pillow's, about odd metadata
    Image.MAX_IMAGE_PIXELS = None  # decode_image() has decided
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)


def exit_with_parent() -> None:
    """A worker waits for work for ever, also when the main process was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def inspect_images(paths: list[str]) -> list[Finding]:
    return [inspect_image(path) for path in paths]


def inspect_image(path: str) -> Finding:
    """Decode one image, as training does, and describe it."""
    if os.path.exists(path) and not os.path.isfile(path):
        return Finding("not a regular file; remove it")  # reading a pipe would wait for ever
    try:
        data = np.fromfile(path, dtype=np.uint8)
        image, complaint = decode_listening(data)
    except OSError as error:
        return Finding(f"{error.strerror or error}; replace or remove the file")
    except ValueError as error:
        return Finding(str(error).removeprefix(": "))
    except MemoryError:
        return Finding("too large for the memory; remove the file")
    kind = known_kind(data, path)
    height, width, _ = image.shape
    digest = hashlib.blake2b(data, digest_size=16).digest()
    mode = picture_mode(data)
    return Finding("", complaint, kind, mode, read_orientation(data), is_single_colour(image), width, height, digest)


def decode_listening(data: np.ndarray) -> tuple[np.ndarray, str]:
    """Decode an image; gives what the decoder said too: OpenCV's on stderr, Pillow's as Python's warnings.

    Raises: as decode_image().
    """
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)  # or the next line lands where the last one ended, behind a hole of zeros
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = decode_image(data, "")
    said = os.pread(2, 1000, 0).decode(errors="replace").splitlines()
    lines = [OPENCV_PREFIX.sub("", line) for line in said] + [str(warning.message) for warning in caught]
    return image, next((line for line in lines if line.strip()), "")


def is_single_colour(image: np.ndarray) -> bool:
    """Tell whether all pixels are the same."""
    first = image[0, 0]
    return bool((image[0] == first).all() and (image == first).all())  # nearly all are known by their first row


def picture_mode(data: np.ndarray) -> str:
    """Pillow's name. Only for statistics."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.mode
    except Exception:  # Pillow need not read what OpenCV does, and raises almost anything for odd metadata
        return "other"
