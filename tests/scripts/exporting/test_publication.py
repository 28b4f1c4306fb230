# SPDX-License-Identifier: Apache-2.0
"""exporting/publication.py: all names or none."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from exporting.publication import hash_files, publish, unnamed_folder


def write_bundle(folder: Path, name: str, content: bytes) -> None:
    """A file, and a folder with a file, as Core ML has it."""
    (folder / f"{name}.bin").write_bytes(content)
    (folder / f"{name}.mlpackage/Data").mkdir(parents=True)
    (folder / f"{name}.mlpackage/Data/weights").write_bytes(content)


def export(target: Path, content: bytes) -> None:
    with unnamed_folder(target, "network") as partial:
        write_bundle(partial, "network", content)
        files = hash_files(partial)
        publish(partial, target, "network", {"files": files})


def test_files_get_their_names_and_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        export(tmp_path / "export", content)
        assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
            "network.bin",
            "network.json",
            "network.mlpackage",
        ]
        assert (tmp_path / "export/network.mlpackage/Data/weights").read_bytes() == content
        described = json.loads((tmp_path / "export/network.json").read_text())
        digest = hashlib.sha256(content).hexdigest()
        assert described == {"files": {"network.bin": digest, "network.mlpackage/Data/weights": digest}}


@pytest.mark.parametrize("error", [ValueError("too bad"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing_and_the_earlier_files(tmp_path: Path, error: BaseException) -> None:
    export(tmp_path, b"first")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(type(error)), unnamed_folder(tmp_path, "network") as partial:
        write_bundle(partial, "network", b"second")
        raise error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".network.partial").mkdir()
    (tmp_path / ".network.partial/old.bin").write_bytes(b"old")
    with unnamed_folder(tmp_path, "network") as partial:
        assert list(partial.iterdir()) == []


def test_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with unnamed_folder(tmp_path, "network") as partial:
        write_bundle(partial, "network", b"content")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(
            OSError, match=r"network: No space left on device; make room for it; the files before it stay"
        ):
            publish(partial, tmp_path, "network", {})
    assert list(tmp_path.iterdir()) == []


def test_full_disk_while_a_file_is_filled_is_one_line(tmp_path: Path) -> None:
    """Then the system's error names no file."""
    with (
        pytest.raises(OSError, match=r"network: No space left on device; make room for it; the files before it stay"),
        unnamed_folder(tmp_path, "network"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
