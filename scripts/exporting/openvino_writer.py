# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: an .xml with its .bin, for the processors and graphics of Intel and for Arm, in float or int8."""

import json
from pathlib import Path
from typing import Any

from core.runtimes import stop_telemetry
from exporting.onnx_writer import create_model
from exporting.requests import Request
from exporting.silence import silence

CONVOLUTIONS = ("Convolution", "GroupConvolution")
BETWEEN = ("Convert", "Multiply", "Subtract", "Reshape")  # 8-bit values and the layer that takes them


def write(request: Request) -> Path:
    """Write the network of a request, in int8 if it says so. Returns the path of the .xml.

    int8 is that of the ONNX file: with NNCF fewer answers stay the same.
    """
    stop_telemetry()
    import openvino

    path = request.folder / f"{request.name}.xml"
    with silence():
        model = openvino.Core().read_model(create_model(request).SerializeToString(deterministic=True))
        for key, value in request.description.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            model.set_rt_info(text, ["description", key])
        openvino.save_model(model, path, compress_to_fp16=False)
    return path


def count_int8(path: Path) -> tuple[int, int]:
    """The convolutions and the linear layers of a file whose input and weights are both in 8 bits."""
    stop_telemetry()
    import openvino

    layers = openvino.Core().read_model(path).get_ops()
    kinds = [
        layer.get_type_name()
        for layer in layers
        if layer.get_type_name() in (*CONVOLUTIONS, "MatMul")
        and all(is_int8(value.get_source_output().get_node()) for value in layer.inputs()[:2])
    ]
    return sum(map(kinds.count, CONVOLUTIONS)), kinds.count("MatMul")


def is_int8(node: Any) -> bool:
    """Whether a node gives values of 8 bits, or what Convert and the scale make of them."""
    while node.get_type_name() in BETWEEN:
        node = node.input(0).get_source_output().get_node()
    if node.get_type_name() == "FakeQuantize":
        return bool(node.get_levels() == 256)
    return node.get_output_element_type(0).to_string() in ("i8", "u8", "int8_t", "uint8_t")
