# SPDX-License-Identifier: Apache-2.0
"""What the readers of other programs' formats begin with: the package that a format needs, and the bytes of a file."""

import importlib.util
import os
from pathlib import Path

from core.weights_files import open_weights_file

LARGEST_FILE = 2**31  # what ONNX and TensorFlow Lite allow
COMMAND = "python3 -m pip install -r requirements-convert.txt"


def require_package(name: str, path: Path, format_name: str) -> None:
    """Raise ValueError, with the command that helps, where the package that reads a file is missing."""
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"{path}: reading {format_name} needs the package {name}; `{COMMAND}` installs it")


def read_content(path: Path) -> bytes:
    """The bytes of a file. Raises: FileNotFoundError, OSError; ValueError if they are more than any format has."""
    with open_weights_file(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_FILE:
            raise ValueError(f"{path}: larger than 2 GB, which no MobileNetV2 is; name another file")
        return file.read()
