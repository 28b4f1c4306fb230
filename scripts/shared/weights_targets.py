# SPDX-License-Identifier: Apache-2.0
"""The file of weights that a command writes."""

import os
from pathlib import Path

from core.exported_files import is_exported


def check_target(target: Path) -> None:
    """Raise ValueError if something is there, which stays, or if the name is that of an exported file."""
    if os.path.lexists(target):
        raise ValueError(f"{target}: exists and stays as it is; name another file as TARGET, which comes after SOURCE")
    if is_exported(target):
        raise ValueError(f"{target}: named like an exported file, not like weights; let it end in .pth.tar")
