# SPDX-License-Identifier: Apache-2.0
"""A network for tests."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import atomic_files
from model import MobileNetV2


def small_network(num_classes: int = 3) -> MobileNetV2:
    return MobileNetV2(num_classes, width_mult=0.35)


def write_old_file(folder: Path) -> Path:
    path = folder / "weights.pth.tar"
    atomic_files.write_atomically(path, lambda file: file.write(b"old"))
    assert path.read_bytes() == b"old"
    return path


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """A folder of a user whom permissions bind, who this process is until the test ends."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        if is_root:
            os.chown(name, NOBODY, -1)
            os.seteuid(NOBODY)
        yield Path(name)
        if is_root:
            os.seteuid(0)
        os.chmod(name, 0o755)


NOBODY = 65534
