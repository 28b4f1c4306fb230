# SPDX-License-Identifier: Apache-2.0
"""ONNX: the file for ONNX Runtime, on servers, boards and in browsers, in float or int8."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.runtimes import stop_telemetry
from exporting.requests import Request
from exporting.silence import silence

BATCH = 10  # images that calibrate at once
# Of the range of the input. Exactly as wide as it, levels that lie between two steps would share one with the next.
WIDER = 1.005


def write(request: Request) -> Path:
    """Write the network of a request, in int8 if it says so. Returns the path."""
    path = request.folder / f"{request.name}.onnx"
    with silence():
        save(create_model(request), path)
    return path


def save(model: Any, path: Path) -> None:
    """Write a model that onnx finds to be right in itself."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def create_model(request: Request) -> Any:
    """The network of a request as an onnx.ModelProto with its description."""
    model = export_graph(request)
    if request.choices.int8:
        model = quantize(model, request)
    describe(model, request.description)
    return model


def describe(model: Any, description: dict[str, Any]) -> None:
    """Leave in a model what is needed to run it, and its description."""
    clean(model)
    for key, value in description.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=key, value=text)


def export_graph(request: Request) -> Any:
    """The network in float as an onnx.ModelProto."""
    free_axes = {0: "batch"} if request.choices.batch == "dynamic" else {}
    return trace(
        request.network, request.example(), ["probabilities" if request.choices.softmax else "logits"], free_axes
    )


def trace(network: nn.Module, example: Tensor, outputs: Sequence[str], free_axes: dict[int, str]) -> Any:
    """A network of plain layers, in float, as an onnx.ModelProto that takes "images" and gives `outputs`.

    `free_axes`: the axes of its images that may have another length than in the example, with their names.
    """
    program = torch.onnx.export(
        network,
        (example,),
        dynamic_shapes=(free_axes,) if free_axes else None,
        input_names=["images"],
        output_names=list(outputs),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        if node.op_type == "ReduceMean":  # over whole maps; only under this name runtimes have it in int8
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    used = {name for node in model.graph.node for name in node.input}
    for tensor in list(model.graph.initializer):
        if tensor.name not in used:
            model.graph.initializer.remove(tensor)
    return model


def quantize(model: Any, request: Request) -> Any:
    """The same network in int8: weights signed, one scale a channel, what is between the layers unsigned.

    Between the layers the ranges that the calibration images reach are taken. The last layer's output stays float, for
    eight bits would make equals of the best two classes.
    """
    stop_telemetry()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    classifier = next(node for node in model.graph.node if node.op_type == "Gemm")
    stem = next(node for node in model.graph.node if node.op_type == "Conv")
    add_pre_process_metadata(model)  # whose parts the exporter did: shapes are known, nothing is left to fold
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        quantize_static(
            model,
            path,
            CalibrationImages(request),
            op_types_to_quantize=["Conv", "Clip", "Add", "GlobalAveragePool", "Reshape", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "OpTypesToExcludeOutputQuantization": [classifier.op_type],
                "TensorQuantOverrides": {stem.input[0]: [input_range(request)]} | weight_scales(request),
            },
        )
        return onnx.load(path)


class CalibrationImages:
    """The calibration images in batches, as quantize_static asks for them."""

    def __init__(self, request: Request) -> None:
        assert request.calibration is not None
        self.request, self.levels = request, request.calibration
        self.size = BATCH if request.choices.batch == "dynamic" else 1
        self.start = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        levels = self.levels[self.start : self.start + self.size]
        self.start += self.size
        return {"images": self.request.inputs(levels)} if len(levels) else None


def input_range(request: Request) -> dict[str, np.float32]:
    """From black to white, whatever the calibration images have."""
    mean, std = np.array(request.mean), np.array(request.std)
    low, high = (-mean / std).min(), ((1 - mean) / std).max()
    return {"rmin": np.float32(WIDER * low), "rmax": np.float32(WIDER * high)}


def weight_scales(request: Request) -> dict[str, list[dict[str, Any]]]:
    """The scale of each channel of each weight, by its name in the graph, as quantize_static takes them."""
    scales = {}
    for name, steps in request.weight_steps.items():
        channels: list[dict[str, Any]] = [{"scale": step, "zero_point": np.int8(0)} for step in steps.numpy()]
        scales[f"{name}.weight"] = [channels[0] | {"axis": 0}, *channels[1:]]
    return scales


def clean(model: Any) -> None:
    """Remove what nobody needs to run it, the paths of the machine that wrote it among it."""
    graph = model.graph
    del graph.value_info[:]
    graph.name = "MobileNetV2"
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def count_int8(path: Path) -> tuple[int, int]:
    """The convolutions and the linear layers of a file whose input and weights are both in 8 bits."""
    import onnx

    graph = onnx.load(path).graph
    makers = {name: node for node in graph.node for name in node.output}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    eight_bits = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)

    def is_int8(name: str) -> bool:
        maker = makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return False
        return types[maker.input[2]] in eight_bits  # the zero point has the type of the values

    kinds = [node.op_type for node in graph.node if node.input and all(map(is_int8, node.input[:2]))]
    return kinds.count("Conv"), kinds.count("Gemm") + kinds.count("MatMul")
