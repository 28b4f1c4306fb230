# SPDX-License-Identifier: Apache-2.0
"""Reading a TensorFlow Lite file as a Graph, without executing anything in it."""

from pathlib import Path
from typing import Any

import numpy as np

from converting.format_files import read_content, require_package
from converting.graph_builder import (
    NCHW,
    NHWC,
    GraphBuilder,
    NotOursError,
    UnsuitableError,
    Value,
    reason_of,
    require,
)
from converting.graphs import Graph
from converting.tflite_operations import FOLDED, Node, add_operation
from converting.tflite_tensors import INT8, UINT8, TfliteTensors, element, integers
from core.plurals import counted

MOST_OPERATORS = 5000


def read_tflite(path: Path) -> Graph:
    """Read a TensorFlow Lite file as a graph of operations.

    Raises: FileNotFoundError; ValueError naming the file if it is damaged, or not of one image and one answer.
    """
    require_package("tflite", path, "a TFLite model")
    import tflite

    content = read_content(path)
    try:
        if content[4:8] != b"TFL3":
            raise ValueError("it does not begin like one")
        with np.errstate(all="ignore"):  # numbers that are none are looked for in the network
            return build_graph(tflite.Model.GetRootAs(content, 0), len(content))
    except UnsuitableError as error:
        raise ValueError(f"{path}: {reason_of(error)}") from error
    except Exception as error:  # a damaged file can raise almost anything
        raise ValueError(f"{path}: damaged, or not TFLite ({reason_of(error)}); get it again") from error


def build_graph(model: Any, num_bytes: int) -> Graph:
    if model.SubgraphsLength() != 1:
        raise UnsuitableError(f"it has {model.SubgraphsLength()} graphs, a classifier 1")
    subgraph = model.Subgraphs(0)
    tensors, builder = TfliteTensors(model, subgraph, num_bytes), GraphBuilder(NHWC, num_bytes)
    inputs, outputs = integers(subgraph.InputsAsNumpy()), integers(subgraph.OutputsAsNumpy())
    if len(inputs) != 1 or len(outputs) != 1:
        has = f"{counted(len(inputs), 'input')} and {counted(len(outputs), 'output')}"
        raise UnsuitableError(f"it has {has}, a classifier one of each")
    builder.values[str(inputs[0])] = image_of(tensors, inputs[0])
    if subgraph.OperatorsLength() > MOST_OPERATORS:
        raise UnsuitableError(f"it has more than {MOST_OPERATORS} operations")
    for index in range(subgraph.OperatorsLength()):
        add_operator(builder, tensors, subgraph.Operators(index))
    return builder.finish(str(inputs[0]), str(outputs[0]), normalisation_of(tensors, inputs[0]))


def image_of(tensors: TfliteTensors, index: int) -> Value:
    """The order of axes of the input, and its height and width if they are fixed. Raises: ValueError for no image."""
    shape, signature = tensors.shape(index), integers(tensors.table(index).ShapeSignatureAsNumpy())
    lengths = signature if len(signature) == len(shape) else shape  # -1 for any, where the shape has 1
    if len(lengths) != 4:
        raise UnsuitableError(
            f"its input {tensors.name(index)} has {counted(len(lengths), 'axis', 'axes')}, images have 4"
        )
    layout = NCHW if lengths[1] == 3 != lengths[3] else NHWC
    height, width = lengths[layout.index("H")], lengths[layout.index("W")]
    return Value(layout, (height, width) if min(height, width) > 0 else None)


def normalisation_of(tensors: TfliteTensors, index: int) -> tuple[list[float], list[float]] | None:
    """Mean and std of images from 0 to 1, where the network takes integers; they are then pixels from 0 to 255.

    Of int8 they are these less 128.
    """
    kind, quantisation = tensors.table(index).Type(), tensors.quantisation(index)
    if kind not in (UINT8, INT8):
        return None
    scale, zero_point = 1.0, 0
    if quantisation is not None:
        scale = float(quantisation.scale.item())
        zero_point = 0 if quantisation.zero_point is None else int(quantisation.zero_point.item())
    if not 0 < scale < np.inf:
        raise ValueError(f"its input {tensors.name(index)} has the scale {scale:g}")
    darkest = zero_point + (128 if kind == INT8 else 0)
    return [darkest / 255] * 3, [1 / (255 * scale)] * 3


def add_operator(builder: GraphBuilder, tensors: TfliteTensors, operator: Any) -> None:
    """Add what an operator of the file does, as a constant or as an operation."""
    inputs, outputs = integers(operator.InputsAsNumpy()), integers(operator.OutputsAsNumpy())
    if not outputs:
        return
    names = [str(index) if index >= 0 else "" for index in inputs]  # -1: left out
    kind = kind_of(tensors, operator)
    extra = outputs
    try:
        take_constants(builder, tensors, inputs)
        require(len(outputs) == 1 and "" not in names[:1])
        node = Node(kind, tensors.name(outputs[0]), names, str(outputs[0]), operator, tensors)
        if kind in FOLDED and names and names[0] in builder.constants:
            builder.keep(node.output, FOLDED[kind](*(builder.constant(name) for name in names)))
        else:
            add_operation(builder, node)
        extra = []
    except NotOursError:
        pass
    for output in extra:
        builder.add_other(kind, tensors.name(output), [name for name in names if name], str(output))


def take_constants(builder: GraphBuilder, tensors: TfliteTensors, inputs: list[int]) -> None:
    """Hand those inputs of an operator to the builder that are constants, and were not met yet."""
    for index in inputs:
        if index < 0 or str(index) in builder.values or str(index) in builder.constants:
            continue
        constant = tensors.constant(index)
        if constant is not None:
            builder.keep(str(index), constant)
            if constant.ndim > 1 and tensors.table(index).Type() in (UINT8, INT8):
                builder.note_integers("uint8" if tensors.table(index).Type() == UINT8 else "int8")


def kind_of(tensors: TfliteTensors, operator: Any) -> str:
    """The name that the format has for an operation."""
    import tflite

    codes = tensors.model.OperatorCodes, tensors.model.OperatorCodesLength()
    code = element(*codes, operator.OpcodeIndex())
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())  # the first had one byte, and new files have both
    name = tflite.BUILTIN_OPCODE2NAME.get(number, f"operation {number}")
    return f"custom {tensors.text_of(code.CustomCode())}" if name == "CUSTOM" else name
