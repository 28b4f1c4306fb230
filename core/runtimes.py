# SPDX-License-Identifier: Apache-2.0
"""The runtimes of exported files, each with the same way in: numpy arrays as the file takes them -> float32 [N, C]."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.exported_files import SUFFIXES

Run = Callable[[np.ndarray], np.ndarray]
COMMAND = "python3 -m pip install -r requirements-export.txt"


class ExportedNetwork(nn.Module):
    """A network in another runtime: images on the CPU, as its file takes them -> logits float32 [N, C].

    Images: normalised float32 [N, 3, S, S], or uint8 levels [N, S, S, 3] where `takes_levels`.
    """

    def __init__(self, path: Path, description: dict[str, Any], num_threads: int) -> None:
        super().__init__()
        self.takes_levels = description["input"]["type"] == "uint8"
        self.gives_probabilities = description["output"]["name"] == "probabilities"
        self.run = open_network(path, num_threads)

    def forward(self, images: Tensor) -> Tensor:
        outputs = torch.from_numpy(self.run(images.contiguous().numpy()))
        if self.gives_probabilities:  # up to a summand, which no softmax notices, they are the logits
            return outputs.clamp_min(torch.finfo(torch.float32).tiny).log()
        return outputs


def open_network(path: Path, num_threads: int) -> Run:
    """What runs an exported file on the CPU, on batches of any size.

    Raises: ValueError if its runtime is missing, or refuses it.
    """
    package, name, open_file = RUNTIMES[SUFFIXES[path.suffix.lower()]]
    if not has_module(package):
        raise ValueError(f"{path}: running it needs {name}; `{COMMAND}` installs it")
    try:
        return open_file(path, num_threads)
    except Exception as error:  # of any kind: each runtime has its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path}: {name} cannot read it: {lines[0][:200]}; export the weights again") from error


def has_module(name: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def in_parts(run: Run, size: int) -> Run:
    """Run batches of any size in parts of at most `size` images, the number that a file has room for."""

    def run_parts(images: np.ndarray) -> np.ndarray:
        parts = [run(images[start : start + size]).copy() for start in range(0, len(images), size)]
        return np.concatenate(parts)

    return run_parts


def open_onnx(path: Path, num_threads: int) -> Run:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = num_threads
    settings.log_severity_level = 4
    # Threads that wait by running would take the cores of the loader workers.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    batch = taken.shape[0]

    def run(images: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = session.run(None, {taken.name: images})[0]
        return outputs

    return in_parts(run, batch) if isinstance(batch, int) else run


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which reports every import to its makers unless a file of the user forbids it."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # then a stub takes its place
    return importlib.import_module("openvino")


def open_openvino(path: Path, num_threads: int) -> Run:
    openvino = import_openvino()
    # By itself it would compute a float32 file in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": num_threads}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    batch = compiled.input(0).partial_shape[0]

    def run(images: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = compiled(images)[0]
        return outputs.copy()

    return run if batch.is_dynamic else in_parts(run, batch.get_length())


def open_executorch(path: Path, num_threads: int) -> Run:
    from executorch.runtime import Runtime, Verification

    program = Runtime.get().load_program(path, verification=Verification.InternalConsistency)
    method = program.load_method("forward")
    most = method.metadata.input_tensor_meta(0).sizes()[0]

    def run(images: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = method.execute([torch.from_numpy(images)])[0].numpy()
        return outputs

    return in_parts(run, most)


def open_litert(path: Path, num_threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=num_threads)
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


def open_coreml(path: Path, num_threads: int) -> Run:
    raise ValueError("it runs on macOS and iOS alone")


RUNTIMES = {
    "onnx": ("onnxruntime", "ONNX Runtime", open_onnx),
    "openvino": ("openvino", "OpenVINO", open_openvino),
    "executorch": ("executorch.runtime", "ExecuTorch", open_executorch),
    "litert": ("ai_edge_litert", "LiteRT", open_litert),
    "coreml": ("coremltools", "Core ML", open_coreml),
}
