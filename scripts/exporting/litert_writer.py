# SPDX-License-Identifier: Apache-2.0
"""LiteRT (TensorFlow Lite): the file for Android and small boards, in float or int8.

Its converter runs in .venv-litert, which `make litert` makes: it does not install beside the program's torch.
"""

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporting.litert_metadata import append_files, create_metadata
from exporting.requests import Choices, Request
from shared.command_line import REPOSITORY

ENVIRONMENT = ".venv-litert"
COMMAND = "make litert"
ALIGNMENT = 16  # bytes, of weights in a file that runtimes map into memory


def check(_: Choices) -> None:
    """Raise ValueError if the converter was not set up."""
    find_python()


def write(request: Request) -> Path:
    """Write the network of a request, in int8 if it says so. Returns the path."""
    path = request.folder / f"{request.name}.tflite"
    python = find_python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hand_over(request, folder)
        run_converter(python, folder)
        model = (folder / "network.tflite").read_bytes()
    path.write_bytes(append_files(finish(model, request), request.description))
    return path


def find_python() -> Path:
    """The Python that has the converter. Raises: ValueError if it was not set up."""
    python = REPOSITORY / ENVIRONMENT / "bin/python"
    if not python.exists():
        raise ValueError(f"exporting to litert needs {ENVIRONMENT} for its converter; `{COMMAND}` sets it up")
    return python


def hand_over(request: Request, folder: Path) -> None:
    """Write what litert_conversion.py reads."""
    used = request.description["network"]
    weights = request.network.state_dict()
    facts = {
        "choices": request.choices._asdict(),
        "image_size": request.image_size,
        "mean": request.mean,
        "std": request.std,
        "num_classes": len(weights["classifier.bias"]),
        "width_mult": used["model_width_mult"],
        "padding": used["model_padding"],
    }
    (folder / "network.json").write_text(json.dumps(facts), encoding="utf-8")
    torch.save(weights, folder / "weights.pt")
    if request.choices.int8:
        assert request.calibration is not None
        np.save(folder / "levels.npy", request.calibration)


def run_converter(python: Path, *folders: Path) -> None:
    """Run litert_conversion.py for what is in each folder; it ends with this one. Raises: ValueError if it fails."""
    # -P: else the modules beside the script would hide packages of the same names, like requests.
    command: list[str | Path] = [python, "-P", "-W", "ignore", "-m", "exporting.litert_conversion", *folders]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "scripts")))}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode == 0:
        return
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
    reason = f"signal {-done.returncode} ended it" if done.returncode < 0 else lines[-1][:200]
    raise ValueError(f"litert: the converter in {ENVIRONMENT} failed: {reason}; `{COMMAND}` sets it up anew")


def finish(model: bytes, request: Request) -> bytes:
    """A converted file with its metadata, names that are no paths through Python's classes, and aligned weights."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(model)
    (graph,) = content.subgraphs
    for index, tensor in enumerate(graph.tensors):
        tensor.name = str(index)
    for places, name in ((graph.inputs, "images"), (graph.outputs, request.description["output"]["name"])):
        graph.tensors[places[0]].name = name
    if request.choices.batch == "dynamic":
        for index in (*graph.inputs, *graph.outputs):
            graph.tensors[index].shapeSignature = np.array([-1, *graph.tensors[index].shape[1:]], np.int32)
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = "TFLITE_METADATA", len(content.buffers)
    content.metadata.append(metadata)
    content.description = "MobileNetV2"
    # The quantiser leaves weights behind the tables, where old runtimes do not look.
    values = [
        model[buffer.offset : buffer.offset + buffer.size] if buffer.offset > 1 else buffer.data
        for buffer in content.buffers
    ]
    values.append(np.frombuffer(create_metadata(request.description), np.uint8))
    content.buffers = [create_buffer() for _ in values]
    for buffer, value in zip(content.buffers, values, strict=True):
        buffer.data = value
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def create_buffer() -> Any:
    """An empty schema.BufferT whose content will be aligned."""
    from ai_edge_litert import schema_py_generated as schema

    class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
        """As the format demands, and neither the converter nor the package's own Pack() does."""

        def Pack(self, builder: Any) -> Any:
            data = None
            if self.data is not None:
                builder.StartVector(1, len(self.data), ALIGNMENT)
                builder.head -= len(self.data)
                builder.Bytes[builder.head : builder.head + len(self.data)] = bytes(self.data)
                data = builder.EndVector()
            schema.BufferStart(builder)
            if data is not None:
                schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    return AlignedBuffer()


def count_int8(path: Path) -> tuple[int, int]:
    """The convolutions and the linear layers of a file whose input and weights are both in int8."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (graph,) = model.subgraphs
    codes = schema.BuiltinOperator
    kinds = [
        model.operatorCodes[operator.opcodeIndex].builtinCode
        for operator in graph.operators
        if all(graph.tensors[index].type == schema.TensorType.INT8 for index in operator.inputs[:2])
    ]
    return kinds.count(codes.CONV_2D) + kinds.count(codes.DEPTHWISE_CONV_2D), kinds.count(codes.FULLY_CONNECTED)
