# SPDX-License-Identifier: Apache-2.0
"""The formats that scripts/export.py writes: where each is written, what it needs, what its users expect."""

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

from core.runtimes import COMMAND, has_module
from exporting.requests import FLOAT_INPUT, LEVEL_INPUT


class Format(NamedTuple):
    """One format."""

    writer: str  # the module of exporting/ that writes it
    suffix: str
    packages: tuple[str, ...]  # that write, run and check it
    input: str  # the one that its users expect, where they choose none
    batch: str


FORMATS = {
    "onnx": Format("onnx_writer", ".onnx", ("onnx", "onnxscript", "onnxruntime"), FLOAT_INPUT, "dynamic"),
    "openvino": Format(
        "openvino_writer", ".xml", ("onnx", "onnxscript", "onnxruntime", "openvino"), FLOAT_INPUT, "dynamic"
    ),
    "executorch": Format("executorch_writer", ".pte", ("executorch", "torchao"), FLOAT_INPUT, "1"),
    "litert": Format("litert_writer", ".tflite", ("ai_edge_litert",), LEVEL_INPUT, "1"),
    "coreml": Format("coreml_writer", ".mlpackage", ("coremltools",), LEVEL_INPUT, "1"),
}


def require(name: str) -> None:
    """Raise ValueError, with the command that helps, if a package for a format is missing."""
    for package in FORMATS[name].packages:
        if not has_module(package):
            raise ValueError(f"exporting to {name} needs the package {package}; `{COMMAND}` installs all of them")


@contextlib.contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """While a file of this name is made. Raises: ValueError in one line for whatever goes wrong in the libraries."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{name}: the converter failed: {lines[-1][:200]}; nothing was written") from error


def find_writer(name: str) -> ModuleType:
    """The module that writes a format: write(Request) -> Path and count_int8(Path) -> (convolutions, linear layers).

    Where a format cannot be all that is chosen, it also has check(Choices), which raises ValueError before slow work.
    """
    return importlib.import_module(f"exporting.{FORMATS[name].writer}")
