# SPDX-License-Identifier: Apache-2.0
"""The runtimes of exported files, each with the same way in: numpy arrays as the file takes them -> float32 [N, C].

Files are handed over as bytes: by their path, runtimes would also read what such files name.
"""

import contextlib
import functools
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from core.exported_files import SUFFIXES
from core.plurals import counted
from core.trials import survives

Run = Callable[[np.ndarray], np.ndarray]
COMMAND = "python3 -m pip install -r requirements-export.txt"


class ExportedNetwork(nn.Module):
    """A network in another runtime: images on the CPU, as its file takes them -> logits float32 [N, C].

    Images: normalised float32 [N, 3, S, S], or uint8 levels [N, S, S, 3] where `takes_levels`.
    Raises: ValueError if its runtime is missing, or the file does not take and give what its description says; also
    when it runs.
    """

    def __init__(self, path: Path, description: dict[str, Any], num_threads: int) -> None:
        super().__init__()
        self.path, self.labels, self.num_classes = path, description["labels"], len(description["classes"])
        self.takes_levels = description["input"]["type"] == "uint8"
        self.gives_probabilities = description["output"]["name"] == "probabilities"
        self.precision = "int8" if description["int8"] else "float32"
        size = description["input"]["image_size"]
        example = np.zeros(
            (1, size, size, 3) if self.takes_levels else (1, 3, size, size), description["input"]["type"]
        )
        self.runtime = find_runtime(path)
        if self.runtime in FRAGILE and not survives(open_and_run, path, example):
            raise ValueError(f"{path}: {self.runtime} breaks off when it reads it; export the weights again")
        self.run = open_network(path, num_threads)
        self.package = RUNTIMES[SUFFIXES[path.suffix.lower()]][0]
        self.version = find_version(self.package)
        with quiet():
            self(torch.from_numpy(example))  # which checks what it takes and gives

    def forward(self, images: Tensor) -> Tensor:
        try:
            outputs = torch.from_numpy(self.run(images.contiguous().numpy()))
        except Exception as error:  # of any kind: each runtime has its own
            raise ValueError(f"{self.path}: {self.runtime} cannot run it: {first_line(error)}") from error
        if outputs.dtype != torch.float32 or outputs.shape != (len(images), self.num_classes):
            raise ValueError(
                f"{self.path}: gives {outputs.dtype} {list(outputs.shape)} for {counted(len(images), 'image')}, and by "
                f"its description float32 {[len(images), self.num_classes]}; export the weights again"
            )
        if self.gives_probabilities:  # up to a summand, which no softmax notices, they are the logits
            return outputs.clamp_min(torch.finfo(torch.float32).tiny).log()
        return outputs


def find_runtime(path: Path) -> str:
    """What the runtime of an exported file is called. Raises: ValueError if it is missing, or on other devices."""
    file_format = SUFFIXES[path.suffix.lower()]
    if file_format not in RUNTIMES:
        raise ValueError(f"{path}: runs on devices of Apple alone; name an .onnx export of the same weights")
    package, name, _ = RUNTIMES[file_format]
    if not has_module(package):
        raise ValueError(f"{path}: running it needs {name}; `{COMMAND}` installs it")
    return name


def open_network(path: Path, num_threads: int) -> Run:
    """What runs an exported file on the CPU, on batches of any size.

    Raises: ValueError if its runtime is missing, or refuses it.
    """
    name = find_runtime(path)
    *_, open_file = RUNTIMES[SUFFIXES[path.suffix.lower()]]
    stop_telemetry()
    try:
        with quiet():
            return open_file(path, num_threads)
    except Exception as error:  # of any kind: each runtime has its own
        raise ValueError(f"{path}: {name} cannot read it: {first_line(error)}; export the weights again") from error


def stop_telemetry() -> None:
    """Keep runtimes from telling their makers that they run, as they do when imported. To be called before that."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime: to Microsoft, with a file in ~/.cache
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))  # OpenVINO: to Google; none is no error


def open_and_run(path: Path, example: np.ndarray) -> None:
    """What a trial of a file is: whatever it raises is for the real attempt to tell."""
    with quiet(), contextlib.suppress(Exception):
        open_network(path, 1)(example)


def first_line(error: Exception) -> str:
    """The beginning of what a runtime says about an error."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return "".join(letter if letter.isprintable() else "?" for letter in lines[0])[:200]


def has_module(name: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def find_version(package: str) -> str:
    """The version of a runtime that was imported."""
    version = getattr(sys.modules.get(package), "__version__", None)  # its distribution may have another name
    return str(version or metadata.version(package.replace("_", "-"))).partition("-")[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let what runtimes write about themselves go nowhere, also that of their own code: what they raise says enough."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def in_parts(run: Run, size: int) -> Run:
    """Run batches of any size in parts of at most `size` images, the number that a file has room for."""

    def run_parts(images: np.ndarray) -> np.ndarray:
        parts = [run(images[start : start + size]).copy() for start in range(0, len(images), size)]
        return np.concatenate(parts)

    return run_parts


def open_onnx(path: Path, num_threads: int) -> Run:
    session = open_session(path, num_threads)
    (taken,) = session.get_inputs()
    batch = taken.shape[0]

    def run(images: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = session.run(None, {taken.name: images})[0]
        return outputs

    return in_parts(run, batch if isinstance(batch, int) else MOST_AT_ONCE)


def open_session(path: Path, num_threads: int) -> Any:
    """An .onnx file as an onnxruntime.InferenceSession on the CPU."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = num_threads
    settings.log_severity_level = 4
    # Threads that wait by running would take the cores of the loader workers.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Of bytes it would otherwise also take its own format, and weights from files in the working folder.
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return onnxruntime.InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])


MOST_AT_ONCE = 8  # more images leave the cache: 50 take up to a third more time each, and page in much memory


@functools.cache
def openvino_core() -> Any:
    """The only one: several, deleted in the order they were made, leave the process a signal stack in freed memory."""
    import openvino

    return openvino.Core()


def open_openvino(path: Path, num_threads: int) -> Run:
    network = path.read_bytes()
    if not network.startswith(b"<?xml"):  # else it would read the formats of others, some of which name files
        raise ValueError("not OpenVINO's own format")
    model = openvino_core().read_model(network, path.with_suffix(".bin").read_bytes())
    # By itself it would compute a float32 file in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": num_threads}
    compiled = openvino_core().compile_model(model, "CPU", settings)
    batch = compiled.input(0).partial_shape[0]

    def run(images: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = compiled(images)[0]
        return outputs.copy()

    return run if batch.is_dynamic else in_parts(run, batch.get_length())


def open_executorch(path: Path, num_threads: int) -> Run:
    # Not executorch.runtime, which imports the exporter and torch's compiler: that takes 3 s.
    from executorch.extension.pybindings import _C

    program = path.read_bytes()
    for backend in _C._get_registered_backend_names():  # others load libraries, and hand them what is in the file
        if backend != "XnnpackBackend" and backend.encode() in program:
            raise ValueError(f"it asks for {backend}")
    _C._unsafe_reset_threadpool(num_threads)
    loaded = _C._load_program_from_buffer(program, program_verification=_C.Verification.InternalConsistency)
    method = loaded.load_method("forward")
    most, *shape = method.method_meta().input_tensor_meta(0).sizes()

    def run(images: np.ndarray, _program: bytes = program) -> np.ndarray:  # which its methods read, and do not hold
        if list(images.shape[1:]) != shape:  # with room for more images it would take a few larger ones
            raise ValueError(f"it takes images {shape}")
        outputs: np.ndarray = method([torch.from_numpy(images)])[0].numpy()
        return outputs

    return in_parts(run, most)


def open_litert(path: Path, num_threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=num_threads)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    is_dynamic = taken["shape_signature"][0] == -1

    def run(images: np.ndarray) -> np.ndarray:
        if is_dynamic and len(images) != interpreter.get_input_details()[0]["shape"][0]:
            interpreter.resize_tensor_input(taken["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], images)
        interpreter.invoke()
        outputs: np.ndarray = interpreter.get_tensor(given["index"])
        return outputs

    return run if is_dynamic else in_parts(run, int(taken["shape"][0]))


RUNTIMES = {
    "onnx": ("onnxruntime", "ONNX Runtime", open_onnx),
    "openvino": ("openvino", "OpenVINO", open_openvino),
    "executorch": ("executorch", "ExecuTorch", open_executorch),
    "litert": ("ai_edge_litert", "LiteRT", open_litert),
}
FRAGILE = ("ExecuTorch", "LiteRT")  # which files made on purpose can end or hang, with the process that they are in
