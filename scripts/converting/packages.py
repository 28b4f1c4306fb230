# SPDX-License-Identifier: Apache-2.0
"""The packages that only reading a format needs."""

import importlib.util
from pathlib import Path

COMMAND = "python3 -m pip install -r requirements-convert.txt"


def require_package(name: str, path: Path, format_name: str) -> None:
    """Raise ValueError, with the command that helps, where the package that reads a file is missing."""
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"{path}: reading {format_name} needs the package {name}; `{COMMAND}` installs it")
