# SPDX-License-Identifier: Apache-2.0
"""The hidden folder in which a dataset is made: filled by many threads, continued after an interruption, then renamed.

It lies next to the target, data/.<NAME>.partial, and holds
    recipe.json            what is being made; another recipe starts afresh
    images/<split>/...     every file whole: written to writing/, then renamed
    download/              archives that were fetched
    prepare_dataset.json   once every image is there: what goes into the target beside them
"""

import contextlib
import fcntl
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from sources import Sample

RECORD = "prepare_dataset.json"  # in a target: what made it and what it held then
JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_QUALITY = 95
# Samples that are read but not written yet: enough to keep the threads busy, few enough for any memory.
MAX_WAITING = 256
MAX_WAITING_BYTES = 2**28


class WorkFolder:
    """Where a target is made, by one run at a time."""

    def __init__(self, target: Path) -> None:
        # Renaming works inside one file system only: a target on a disk of its own gets the folder inside.
        self.path = target / ".partial" if target.is_mount() else target.with_name(f".{target.name}.partial")
        self.target, self.images, self.downloads = target, self.path / "images", self.path / "download"
        self.recipe, self.record, self.writing = self.path / "recipe.json", self.path / RECORD, self.path / "writing"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, made if need be, for this run; the system lets go of it however the run ends.

        Raises: ValueError if another run holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # a run that ended in between has removed the folder that is open here
                is_held = os.path.samestat(os.fstat(descriptor), self.path.stat())
            except (BlockingIOError, FileNotFoundError):
                is_held = False
            if not is_held:
                raise ValueError(f"{self.path}: another run is working here; wait until it has ended")
            yield
        finally:
            os.close(descriptor)

    def begin(self, recipe: dict) -> None:
        """Continue what an earlier run with this recipe made, or start afresh."""
        found = read_json(self.recipe)
        if found == recipe and self.has_progress():
            print(f"{self.path}: continuing an interrupted run")
        elif found != recipe:
            if self.has_progress():
                print(f"{self.path}: an interrupted run with another source or other options; starting afresh")
            for folder in (self.images, self.downloads):
                shutil.rmtree(folder, ignore_errors=True)
            write_json(self.recipe, recipe)
        self.writing.mkdir(exist_ok=True)

    def has_progress(self) -> bool:
        """Tell whether it holds anything worth keeping."""
        folders = (self.images, self.downloads)
        return self.record.exists() or any(path.is_file() for folder in folders for path in folder.rglob("*"))

    def publish(self) -> None:
        """Give the splits the target's name; killed on the way, the next call does the rest."""
        self.target.mkdir(parents=True, exist_ok=True)
        for split_folder in sorted(self.images.iterdir()):
            split_folder.rename(self.target / split_folder.name)
        self.record.replace(self.target / RECORD)
        self.remove()

    def remove(self) -> None:
        """Remove it with all it holds."""
        shutil.rmtree(self.path, ignore_errors=True)


def read_json(path: Path) -> dict | None:
    """The object in a file, or None if there is none that can be read."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: dict) -> None:
    """Write a file, whole or not at all, even if the power fails."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_samples(
    samples: Iterator[Sample], work: WorkFolder, folders: dict[str, str], short_side: int | None
) -> Iterator[None]:
    """Write every sample to <images>/<folder of its split>/<class>/<name>; yields for each, as it is written.

    Raises: ValueError for a name that occurs twice or cannot be written safely, or an unreadable image; OSError.
    """
    seen: set[str] = set()
    waiting: deque[tuple[Future, int]] = deque()
    waiting_bytes = 0
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        try:
            for sample in samples:
                check_names(sample)
                name = f"{folders[sample.split]}/{sample.class_name}/{sample.file_name}"
                if name in seen:
                    raise ValueError(f"holds {name!r} twice; get it again")
                seen.add(name)
                future = executor.submit(write_sample, sample.data, work.images / name, work.writing, short_side)
                waiting.append((future, len(sample.data)))
                waiting_bytes += len(sample.data)
                while len(waiting) > MAX_WAITING or waiting_bytes > MAX_WAITING_BYTES:
                    future, size = waiting.popleft()
                    waiting_bytes -= size
                    yield future.result()
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            executor.shutdown(cancel_futures=True)


def check_names(sample: Sample) -> None:
    """Raise ValueError if the names of a sample lead elsewhere, or training would not find the file."""
    for part in (sample.class_name, *sample.file_name.split("/")):
        if not part or part.startswith(".") or "\\" in part or "\0" in part:
            raise ValueError(f"holds {part!r}, which cannot be the name of a class or an image; rename it")
    if "/" in sample.class_name or not sample.class_name.isprintable():
        raise ValueError(f"holds {sample.class_name!r}, which cannot be the name of a class; rename it")


def write_sample(data: bytes, path: Path, writing: Path, short_side: int | None) -> None:
    """Write one image unless it is there: as it is, or re-encoded if its short side is larger.

    Raises: ValueError for an unreadable image; OSError.
    """
    jpeg_path = path if path.suffix.lower() in JPEG_SUFFIXES else path.with_name(path.name + ".jpg")
    if has_content(path, data) or (short_side and is_whole_jpeg(jpeg_path)):
        return
    if short_side and (smaller := reencode(data, path, short_side)):
        path, data = jpeg_path, smaller
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = writing / str(threading.get_ident())
    partial.write_bytes(data)
    partial.replace(path)


def has_content(path: Path, data: bytes) -> bool:
    """Tell whether a file is there and holds these bytes."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def is_whole_jpeg(path: Path) -> bool:
    """Tell whether a file is there and begins and ends as a JPEG does."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(-2, os.SEEK_END)
            return start == b"\xff\xd8" and file.read(2) == b"\xff\xd9"
    except OSError:  # none, or too short
        return False


def reencode(data: bytes, path: Path, short_side: int) -> bytes | None:
    """JPEG of the image with this short side, antialiased; None if it has no more. Raises: ValueError."""
    from imgproc import decode_image, resize  # imports torch, which takes seconds

    name = "/".join(path.parts[-3:])
    image = decode_image(np.frombuffer(data, np.uint8), name)
    height, width = image.shape[:2]
    short = min(height, width)
    if short <= short_side:
        return None
    image = resize(image, short_side * height // short, short_side * width // short)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    try:
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    except cv2.error as error:
        raise ValueError(f"{name}: {image.shape[1]} x {image.shape[0]} pixels are too many for a JPEG") from error
