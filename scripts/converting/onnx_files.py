# SPDX-License-Identifier: Apache-2.0
"""Reading an ONNX file as a Graph, without executing anything in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converting.format_files import read_content, require_package
from converting.graph_builder import (
    NCHW,
    NHWC,
    Array,
    GraphBuilder,
    NotOursError,
    UnsuitableError,
    Value,
    reason_of,
    require,
    shown,
)
from converting.graphs import Graph
from converting.onnx_folding import FOLDED
from converting.onnx_integers import INTEGER_OPERATIONS
from converting.onnx_operations import OPERATIONS, Node
from converting.onnx_tensors import OnnxTensors
from converting.onnx_wire import check_parts
from core.plurals import counted

if TYPE_CHECKING:
    import onnx

UINT8 = 2  # the format's number of the type
STANDARD_DOMAINS = ("", "ai.onnx")
MICROSOFTS = ("QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm")


def read_onnx(path: Path) -> Graph:
    """Read an ONNX file, with the files of weights that lie beside it, as a graph of operations.

    Raises: FileNotFoundError; ValueError naming the file if it is damaged, or not of one image and one answer.
    """
    require_package("onnx", path, "an ONNX model")
    import onnx

    content = read_content(path)
    try:
        check_parts(content)
        with np.errstate(all="ignore"):  # numbers that are none are looked for in the network
            return build_graph(onnx.load_model_from_string(content), len(content), path.parent)
    except FileNotFoundError:
        raise
    except UnsuitableError as error:
        raise ValueError(f"{path}: {reason_of(error)}") from error
    except Exception as error:  # a damaged file can raise almost anything
        raise ValueError(f"{path}: damaged, or not ONNX ({reason_of(error)}); get it again") from error


def build_graph(model: "onnx.ModelProto", num_bytes: int, folder: Path) -> Graph:
    graph, tensors = model.graph, OnnxTensors(folder)
    if graph.sparse_initializer:
        raise UnsuitableError("it has sparse weights")
    builder = GraphBuilder(NCHW, num_bytes)
    for tensor in graph.initializer:
        builder.check_new(tensor.name)
        builder.constants[tensor.name] = tensors.read(tensor)
    builder.allow(tensors.bytes_beside)
    inputs = [value for value in graph.input if value.name not in builder.constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        has = f"{counted(len(inputs), 'input')} and {counted(len(graph.output), 'output')}"
        raise UnsuitableError(f"it has {has}, a classifier one of each")
    layout, size = image_of(inputs[0], graph)
    builder.values[inputs[0].name] = Value(layout, size)
    for node in graph.node:
        add_node(builder, node, tensors)
    is_bytes = inputs[0].type.tensor_type.elem_type == UINT8
    normalisation = ([0.0] * 3, [1 / 255] * 3) if is_bytes else None  # pixels from 0 to 255
    return builder.finish(inputs[0].name, graph.output[0].name, normalisation)


def image_of(value: "onnx.ValueInfoProto", graph: "onnx.GraphProto") -> tuple[str, tuple[int, int] | None]:
    """The order of axes of the input, and its height and width if they are fixed. Raises: ValueError for no image."""
    if not value.type.tensor_type.HasField("shape"):
        return NCHW, None
    lengths = [axis.dim_value for axis in value.type.tensor_type.shape.dim]  # 0 for any
    if len(lengths) != 4:
        raise UnsuitableError(
            f"its input {shown(value.name)} has {counted(len(lengths), 'axis', 'axes')}, images have 4"
        )
    layout = NCHW if lengths[1] == 3 else NHWC if lengths[3] == 3 or is_transposed_first(graph) else NCHW
    height, width = lengths[layout.index("H")], lengths[layout.index("W")]
    return layout, (height, width) if min(height, width) > 0 else None


def is_transposed_first(graph: "onnx.GraphProto") -> bool:
    """Whether the file turns its values from [N, H, W, C] to [N, C, H, W] before the first convolution."""
    node = next((node for node in graph.node if node.op_type in ("Conv", "Transpose")), None)
    return node is not None and any(list(attribute.ints) == [0, 3, 1, 2] for attribute in node.attribute)


def add_node(builder: GraphBuilder, node: "onnx.NodeProto", tensors: OnnxTensors) -> None:
    """Add what a node of the file does, as a constant or as an operation."""
    is_known = node.domain in STANDARD_DOMAINS or (node.domain == "com.microsoft" and node.op_type in MICROSOFTS)
    kind = node.op_type if is_known else f"{node.domain}.{node.op_type}"
    inputs, outputs = list(node.input), [output for output in node.output if output]
    if not outputs:
        return
    try:
        attributes = read_attributes(node, tensors)
        if attributes.get("training_mode"):
            kind = f"{kind} in training mode"
        require(len(outputs) == 1 or kind == "Dropout")
        if kind == "Constant":
            builder.keep(outputs[0], constant_of(attributes))
        elif kind in FOLDED and all(name in builder.constants for name in needed(kind, inputs)):
            fold(builder, kind, attributes, inputs, outputs[0])
        else:
            operations = OPERATIONS | INTEGER_OPERATIONS
            require(kind in operations and inputs[:1] not in ([], [""]))
            operations[kind](builder, Node(kind, node.name or outputs[0], inputs, outputs[0], attributes))
        extra = outputs[1:]
    except NotOursError:
        extra = outputs
    for output in extra:
        builder.add_other(kind, node.name or output, [name for name in inputs if name], output)


def needed(kind: str, inputs: list[str]) -> list[str]:
    """The inputs of a node that must be constants for it to be one."""
    return inputs[:1] if kind == "CastLike" else [name for name in inputs if name]


def fold(builder: GraphBuilder, kind: str, attributes: dict[str, Any], inputs: list[str], output: str) -> None:
    """Work out what a node makes of constants."""
    constants = [builder.constants.get(name) for name in inputs]
    builder.keep(output, np.asarray(FOLDED[kind](attributes, *constants)))
    if kind == "DequantizeLinear" and constants[0] is not None and constants[0].ndim > 1:  # no bias
        builder.note_integers(str(constants[0].dtype))


def read_attributes(node: "onnx.NodeProto", tensors: OnnxTensors) -> dict[str, Any]:
    """The settings of a node by their names. Raises: NotOursError if one is a program, or none of those known."""
    from onnx import AttributeProto, helper

    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            attributes[attribute.name] = tensors.read(attribute.t)
        else:
            plain = (AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING)
            require(attribute.type in (*plain, AttributeProto.FLOATS, AttributeProto.INTS))
            value = helper.get_attribute_value(attribute)
            attributes[attribute.name] = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return attributes


def constant_of(attributes: dict[str, Any]) -> Array:
    """What a node of the kind Constant holds."""
    kinds = {"value": None, "value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    name = next(iter(attributes), "")
    require(name in kinds and len(attributes) == 1)
    return np.asarray(attributes[name], dtype=kinds[name])
