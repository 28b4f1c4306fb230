# SPDX-License-Identifier: Apache-2.0
"""The hidden folder in which a dataset is made: filled by many threads, continued after an interruption, then renamed.

It lies next to the target, data/.<NAME>.partial, and holds
    recipe.json            what is being made; another recipe starts afresh
    images/<split>/...     every file whole: written to writing/, then renamed
    sources.txt            where images are converted: from which bytes each file was made
    download/              archives that were fetched
    prepare_dataset.json   once every image is there: what goes into the target beside them
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from preparing.conversion import JPEG_SUFFIXES, Conversion, convert, is_turned
from preparing.sources import Sample

RECORD = "prepare_dataset.json"  # in a target: what made it and what it held then
WHOLE_FILES = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND\xaeB`\x82"))  # how a JPEG and a PNG begin and end
# Samples that are read but not written yet: enough to keep the threads busy, few enough for any memory.
MAX_WAITING = 256
MAX_WAITING_BYTES = 2**28


class Written(NamedTuple):
    """One image of the work folder."""

    name: str  # <split>/<class>/<name>; one that became a JPEG ends with .jpg
    was_turned: bool


class WorkFolder:
    """Where a target is made, by one run at a time."""

    def __init__(self, target: Path) -> None:
        # Renaming works inside one file system only: a target on a disk of its own gets the folder inside.
        self.path = target / ".partial" if target.is_mount() else target.with_name(f".{target.name}.partial")
        self.target, self.images, self.downloads = target, self.path / "images", self.path / "download"
        self.recipe, self.record, self.writing = self.path / "recipe.json", self.path / RECORD, self.path / "writing"
        self.journal, self.made_from = self.path / "sources.txt", dict[str, str]()  # its lines: name -> digest

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

    def begin(self, recipe: dict[str, Any]) -> None:
        """Continue what an earlier run with this recipe made, or start afresh."""
        found = read_json(self.recipe)
        if found == recipe and self.has_progress():
            print(f"{self.path}: continuing an interrupted run")
        elif found != recipe:
            if self.has_progress():
                print(f"{self.path}: an interrupted run with another source or other options; starting afresh")
            for folder in (self.images, self.downloads):
                shutil.rmtree(folder, ignore_errors=True)
            self.journal.unlink(missing_ok=True)
            write_json(self.recipe, recipe)
        self.made_from = read_journal(self.journal)
        self.writing.mkdir(exist_ok=True)

    def has_progress(self) -> bool:
        """Tell whether it holds anything worth keeping."""
        folders = (self.images, self.downloads)
        return self.record.exists() or any(path.is_file() for folder in folders for path in folder.rglob("*"))

    def name_of(self, path: Path) -> str:
        """Of a file below images/: <split>/<class>/<name>."""
        return path.relative_to(self.images).as_posix()

    def note_origin(self, path: Path, digest: str) -> None:
        """Store from which bytes a file is going to be made; one that is there was made from others, and goes."""
        path.unlink(missing_ok=True)
        name = self.name_of(path)
        with self.journal.open("a", encoding="ascii") as file:  # one write: the lines of two threads do not mix
            file.write(f"\n{digest} {json.dumps(name)}")  # the line break comes first, as the last line may be cut off
        self.made_from[name] = digest

    def keep_only(self, names: set[str]) -> None:
        """Remove the images that an earlier run made and this one did not, and the folders that this empties."""
        for folder, _, files in os.walk(self.images, topdown=False):
            paths = [Path(folder, file) for file in files]
            kept = [path for path in paths if self.name_of(path) in names]
            for path in set(paths).difference(kept):
                path.unlink()
            if not kept and not os.listdir(folder):
                os.rmdir(folder)

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


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None if there is none that can be read."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def read_journal(path: Path) -> dict[str, str]:
    """The lines of a journal, name -> digest; one that is cut off or damaged is left out."""
    made_from: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError), path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            digest, _, name = line.partition(" ")
            with contextlib.suppress(ValueError):
                made_from[json.loads(name)] = digest
    return made_from


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file, whole or not at all, even if the power fails."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_samples(
    samples: Iterator[Sample], work: WorkFolder, folders: dict[str, str], conversion: Conversion
) -> Iterator[Written]:
    """Write every sample to <images>/<folder of its split>/<class>/<name>; yields each, as it is written.

    Raises: ValueError for a name that occurs twice or cannot be written safely, or an unreadable image; OSError.
    """
    seen: set[str] = set()
    waiting: deque[tuple[Future[Written], int]] = deque()
    waiting_bytes = 0
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        try:
            for sample in samples:
                check_names(sample)
                name = f"{folders[sample.split]}/{sample.class_name}/{sample.file_name}"
                if name in seen:
                    raise ValueError(f"holds {name!r} twice; get it again")
                seen.add(name)
                future = executor.submit(write_sample, sample.data, name, work, conversion)
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
    if sample.class_name != sample.class_name.strip():
        raise ValueError(f"holds the class {sample.class_name!r}, which begins or ends with a blank; rename it")


def write_sample(data: bytes, name: str, work: WorkFolder, conversion: Conversion) -> Written:
    """Write one image unless it is there: as it is, or converted.

    Raises: ValueError for an unreadable image that is to be made smaller; OSError.
    """
    if has_content(work.images / name, data):
        return Written(name, False)
    was_turned = False
    if any(conversion):
        jpeg_name = name if name.lower().endswith(JPEG_SUFFIXES) else name + ".jpg"
        was_turned = conversion.is_upright and is_turned(data)
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        for made in (jpeg_name, name):
            if work.made_from.get(made) == digest and is_whole(work.images / made):
                return Written(made, was_turned)
        converted = convert(data, name, conversion.short_side, was_turned)
        was_turned = was_turned and converted is not None
        if converted:
            name, data = name if converted.startswith(b"\x89PNG") else jpeg_name, converted
        work.note_origin(work.images / name, digest)
    path, partial = work.images / name, work.writing / str(threading.get_ident())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(data)
    partial.replace(path)
    return Written(name, was_turned)


def has_content(path: Path, data: bytes) -> bool:
    """Tell whether a file is there and holds these bytes."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def is_whole(path: Path) -> bool:
    """Tell whether a file is there and begins and ends as a JPEG or a PNG does."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            file.seek(-8, os.SEEK_END)
            end = file.read()
    except OSError:  # none, or too short
        return False
    return any(start.startswith(first) and end.endswith(last) for first, last in WHOLE_FILES)
