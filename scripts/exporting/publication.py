# SPDX-License-Identifier: Apache-2.0
"""Files that get their names together, after all was written and verified."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.atomic_files import NO_ROOM, describe_write_error, sync_folder
from core.exported_files import hash_file


@contextlib.contextmanager
def unnamed_folder(folder: Path, name: str) -> Iterator[Path]:
    """A folder in `folder` for files that have no name yet; it is gone at the end, whatever happens.

    Raises: OSError naming the folder if it cannot be made.
    """
    partial = folder / f".{name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir()
        yield partial
    except OSError as error:
        if str(partial) not in str(error) and (error.filename or error.errno not in NO_ROOM):  # a full disk names none
            raise
        raise describe_write_error(folder / name, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def hash_files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def publish(partial: Path, folder: Path, name: str, description: dict[str, Any]) -> None:
    """Give what is in `partial`, and the description as NAME.json, their names in `folder`.

    The description comes last: until then that of an earlier export does not fit the files, and readers say so.
    Raises: OSError naming the file, the reason and what to do.
    """
    (partial / f"{name}.json").write_text(
        f"{json.dumps(description, indent=2, ensure_ascii=False)}\n", encoding="utf-8"
    )
    entries = sorted(partial.iterdir(), key=lambda path: path.suffix == ".json")
    try:
        for path in (file for entry in entries for file in (entry, *entry.rglob("*"))):
            sync(path)
        for entry in entries:
            target = folder / entry.name
            if target.is_dir():  # which no rename replaces
                os.replace(target, partial / ".before")
            os.replace(entry, target)
        sync_folder(folder)
    except OSError as error:
        raise describe_write_error(folder / name, error) from error


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power cut."""
    if path.is_dir():
        sync_folder(path)
        return
    with open(path, "rb") as file:
        os.fsync(file.fileno())
