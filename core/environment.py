# SPDX-License-Identifier: Apache-2.0
"""What this program needs around it: the system, Python, the packages. It imports none of them, and nothing else."""

from __future__ import annotations  # so that a Python that is too old gets as far as saying so

import io
import os
import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
# What requirements.txt installs, as it is imported. A test holds the two together.
MODULES = (
    *("PIL", "cv2", "numpy", "pillow_heif", "pycocotools", "safetensors", "scipy", "tensorboard", "torch"),
    *("torchvision", "tqdm"),
)


def check_environment() -> None:
    """End the program in one line, status 2, where it cannot run; later too, where a package turns out to be missing.

    The first call of every script, before its other imports.
    """
    if sys.platform == "win32":
        leave("this program needs Linux or macOS; on Windows it runs in WSL (`wsl --install`), as on Linux")
    if sys.version_info < OLDEST_PYTHON:
        leave(
            f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}; 3.11 or newer is needed: run "
            "`make quickstart PYTHON=python3.11`, or name that Python's own path"
        )
    sys.excepthook = explain_missing_package
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":  # as on stderr: names of files may
        sys.stdout.reconfigure(errors="backslashreplace")  # have bytes that are no text


def explain_missing_package(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python calls for an error that nothing caught: a missing package gets a line, all others their traceback."""
    module = (getattr(error, "name", None) or "").partition(".")[0]
    if issubclass(kind, ModuleNotFoundError) and module in MODULES:
        leave(f"{sys.executable} has no {module}; {packages_remedy()}")
    sys.__excepthook__(kind, error, trace)


def packages_remedy() -> str:
    """How to get the packages: from the environment that `make` has made here, or by installing them."""
    environment = ROOT / ".venv"
    if (environment / "bin/python").exists() and Path(sys.prefix).resolve() != environment.resolve():
        return f"run `source {os.path.relpath(environment)}/bin/activate`: its python3 has the packages"
    requirements = os.path.relpath(ROOT / "requirements.txt")
    return f"run `make quickstart` once, or `{sys.executable} -m pip install -r {requirements}`"


def leave(message: str) -> None:
    """End the program with a line on stderr and status 2."""
    print(message, file=sys.stderr)
    sys.exit(2)
