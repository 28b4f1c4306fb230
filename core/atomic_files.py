# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all."""

import contextlib
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file in memory, write it beside `path`, then rename: a crash leaves the old file or the new.

    Raises: OSError naming the file, the reason and what to do.
    """
    content = io.BytesIO()  # torch.save, writing to a disk itself, hides why that failed
    write(content)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise describe_write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk even what is not there cannot be removed
            partial.unlink()


def describe_write_error(path: Path, error: OSError) -> OSError:
    """The error to raise where a file cannot be written: which, why, and what to do."""
    remedy = "make room for it" if error.errno in NO_ROOM else "it needs a folder that can be written to"
    return OSError(f"{path}: {error.strerror or error}; {remedy}; the files before it stay")


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
