# SPDX-License-Identifier: Apache-2.0
"""Reading a file of weights, whoever wrote it, without executing anything in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from converting.graphs import Graph
from converting.keras_files import read_keras
from converting.onnx_files import read_onnx
from converting.tflite_files import read_tflite
from core.weights_files import (
    HDF5,
    KERAS,
    ONNX,
    TFLITE,
    TORCHSCRIPT,
    describe_damage,
    foreign_kind,
    plain_copy,
    read_checkpoint,
    verified_copy,
)


def read_source(path: Path) -> Graph | dict[str, Any]:
    """Read a file with a network, executing nothing in it: a graph, where the format has one, else a checkpoint.

    Raises: FileNotFoundError; ValueError naming the file if it is damaged or of another kind.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder, as TensorFlow's SavedModel; save the model as one .keras file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name a file of weights")
    with path.open("rb") as file:
        kind, _ = foreign_kind(file) or (path.suffix, "")
        start = file.read(9)
    readers: dict[str, Callable[[Path], Graph | dict[str, Any]]] = {
        **dict.fromkeys((HDF5, KERAS, ".h5", ".keras"), read_keras),
        **dict.fromkeys((TFLITE, ".tflite"), read_tflite),
        **dict.fromkeys((ONNX, ".onnx"), read_onnx),
        **{TORCHSCRIPT: read_script, ".safetensors": read_safetensors},
    }
    if start[8:] == b"{":  # 8 bytes of length, then JSON
        kind = ".safetensors"
    return readers.get(kind, read_checkpoint)(path)


def read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return plain_copy(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise ValueError(f"{path}: damaged or not a safetensors file ({reason}); get it again") from error


class ScriptObject(dict[str, Any]):
    """Stands for every class of a TorchScript archive: its attributes by their names."""

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.update(attributes)


def read_script(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by their full names; its program is not even read.

    Beside the program it is a file like that of torch.save(), with objects of the program's classes.
    Raises: ValueError naming the file.
    """
    try:
        with path.open("rb") as file:
            content = verified_copy(file, wanted=r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.data/.+)")
        names = torch.serialization.get_unsafe_globals_in_checkpoint(content)
        content.seek(0)
        allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
        allowed += [(ScriptObject, name) for name in names if name.startswith("__torch__.")]
        allowed += [(lambda value, *kind: value, name) for name in names if name.startswith("torch.jit._pickle.")]
        with torch.serialization.safe_globals(allowed):
            program = torch.load(content, map_location="cpu", weights_only=True)
        if not isinstance(program, ScriptObject):
            raise ValueError(f"it holds a {type(program).__name__}")
        return dict(tensors_in(plain_copy(program), "", set()))
    except Exception as error:  # a damaged file can raise almost anything
        reason = describe_damage(error)
        raise ValueError(f"{path}: damaged or no module of TorchScript ({reason}); save its state_dict()") from error


def tensors_in(module: dict[str, Any], start: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module and of the modules in it, each module once, with their names after `start`."""
    seen.add(id(module))
    for name, value in module.items():
        if isinstance(value, Tensor):
            yield f"{start}{name}", value
        elif isinstance(value, dict) and id(value) not in seen:
            yield from tensors_in(value, f"{start}{name}.", seen)
