# SPDX-License-Identifier: Apache-2.0
"""A file appears whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
import torch
from small_networks import small_network, write_old_file

from core import atomic_files


def assert_only_the_old_file_is_there(path: Path) -> None:
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_full_disk_is_named_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_old_file(tmp_path)
    monkeypatch.setattr(atomic_files, "open", lambda *_: open("/dev/full", "wb"), raising=False)  # noqa: SIM115
    line = f"^{path}: No space left on device; make room for it; the files before it stay$"
    with pytest.raises(OSError, match=line):
        atomic_files.write_atomically(path, lambda file: torch.save(small_network().state_dict(), file))
    assert_only_the_old_file_is_there(path)


def test_full_disk_at_the_end_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_old_file(tmp_path)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)  # where file systems that reserve late tell of it
    with pytest.raises(OSError, match="No space left on device"):
        atomic_files.write_atomically(path, lambda file: file.write(b"new"))
    assert_only_the_old_file_is_there(path)


def test_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_old_file(tmp_path)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_files.write_atomically(path, lambda file: file.write(b"new"))
    assert_only_the_old_file_is_there(path)


def test_read_only_folder_is_named(unprivileged_folder: Path) -> None:
    path = write_old_file(unprivileged_folder)
    unprivileged_folder.chmod(0o555)
    line = f"^{path}: Permission denied; it needs a folder that can be written to; the files before it stay$"
    with pytest.raises(OSError, match=line):
        atomic_files.write_atomically(path, lambda file: file.write(b"new"))
    assert_only_the_old_file_is_there(path)
