# SPDX-License-Identifier: Apache-2.0
"""A network for tests."""

from pathlib import Path

from core import atomic_files
from model import MobileNetV2


def small_network(num_classes: int = 3) -> MobileNetV2:
    return MobileNetV2(num_classes, width_mult=0.35)


def write_old_file(folder: Path) -> Path:
    path = folder / "weights.pth.tar"
    atomic_files.write_atomically(path, lambda file: file.write(b"old"))
    assert path.read_bytes() == b"old"
    return path
