# SPDX-License-Identifier: Apache-2.0
"""Small exported files of every format, each with its description, made without scripts/export.py."""

import functools
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper
from tflite_models import TfliteModel
from torch import Tensor, nn

from core.runtimes import stop_telemetry

SIZE = 32
COLOURS = ["red", "green", "blue"]  # the channels of an image
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "executorch": ".pte", "litert": ".tflite"}


class MeanOfChannels(nn.Module):
    """float32 [N, 3, S, S] -> the mean of each channel, [N, 3]: an image of one colour gets that class."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def write_onnx(path: Path) -> None:
    mean = helper.make_node("ReduceMean", ["images", "axes"], ["logits"], keepdims=0)
    write_graph(path, mean, [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])])


def write_graph(path: Path, node: Any, constants: list[Any], domain: str = "other.operations") -> None:
    """An ONNX file of one operation, float32 [N, 3, 32, 32] -> [N, 3]."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([node], "graph", [images], [logits], constants)
    versions = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=versions, ir_version=10).SerializeToString())


def write_openvino(path: Path) -> None:
    stop_telemetry()
    import openvino
    from openvino import opset13

    images = opset13.parameter([-1, 3, SIZE, SIZE], np.float32, name="images")
    model = openvino.Model([opset13.reduce_mean(images, opset13.constant([2, 3]))], [images], "means")
    openvino.save_model(model, path, compress_to_fp16=False)


def write_trained(path: Path, network: nn.Module) -> None:
    """Any network, float32 [N, 3, 32, 32] -> [N, C], for OpenVINO: the quickest way to a file of a whole one."""
    stop_telemetry()
    with warnings.catch_warnings(action="ignore"):
        import openvino

        batch = {0: torch.export.Dim("batch", min=1, max=64)}
        program = torch.export.export(network, (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=(batch,))
        openvino.save_model(openvino.convert_model(program), path, compress_to_fp16=False)


def write_executorch(path: Path) -> None:
    """With room for 4 images."""
    path.write_bytes(executorch_program())


@functools.cache
def executorch_program() -> bytes:
    """Made once, as importing the exporter takes seconds."""
    with warnings.catch_warnings(action="ignore"):
        from executorch.exir import to_edge

        batch = {0: torch.export.Dim("batch", min=1, max=4)}
        program = torch.export.export(MeanOfChannels(), (torch.zeros(4, 3, SIZE, SIZE),), dynamic_shapes=(batch,))
        return to_edge(program).to_executorch().buffer


def write_litert(path: Path) -> None:
    """Takes levels, one image at a time."""
    model = TfliteModel([1, SIZE, SIZE, 3], "uint8")
    axes = model.add_constant(np.int32([1, 2]))
    levels = model.add("CAST", [0], model.add_tensor([1, SIZE, SIZE, 3]), "CastOptions", inDataType=3, outDataType=0)
    model.add("MEAN", [levels, axes], model.add_tensor([1, 3]), "ReducerOptions", keepDims=False)
    path.write_bytes(model.content())


WRITERS: dict[str, Callable[[Path], None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "executorch": write_executorch,
    "litert": write_litert,
}


def description_of(file_format: str, **values: Any) -> dict[str, Any]:
    """What scripts/export.py would write of a network for three colours, but for the hashes of its files."""
    takes_levels = file_format == "litert"
    taken = {
        **{"name": "images", "layout": "NHWC" if takes_levels else "NCHW"},
        **{"type": "uint8" if takes_levels else "float32", "channels": "RGB", "normalised_inside": takes_levels},
        **{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "image_size": SIZE, "crop": "central square"},
        **{"resize": {"short_side": 37, "method": "bilinear, antialiased"}, "apply_orientation": False},
    }
    network = {"model_arch_name": "mobilenet_v2", "model_width_mult": 0.35, "model_padding": "symmetric"}
    description = {
        **{"format": file_format, "int8": "", "files": {}, "classes": COLOURS, "labels": COLOURS, "input": taken},
        **{"output": {"name": "logits", "type": "float32"}, "batch": "1" if takes_levels else "dynamic"},
        **{"network": network | {"model_batch_norm_eps": 1e-5}, "versions": {}, "verified": {}},
        "weights": {"file": "best.pth.tar", "sha256": "0" * 64},
    }
    return description | values


def describe(path: Path, description: dict[str, Any]) -> None:
    """Write the description beside a file, with the hashes of what is there."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    path.with_suffix(".json").write_text(json.dumps(description | {"files": hashes}))
