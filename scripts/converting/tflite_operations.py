# SPDX-License-Identifier: Apache-2.0
"""What the operations of TensorFlow Lite are in the words of graphs.py: https://ai.google.dev/edge/litert."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from converting.graph_builder import Array, GraphBuilder, require, scale_of, to_tensor
from converting.graphs import SAME, SIGMOID, SOFTMAX
from converting.tflite_tensors import FLOATS, TfliteTensors
from core.plurals import counted


class Node(NamedTuple):
    """One operation of the file; `inputs` has "" for one that is left out."""

    kind: str
    name: str
    inputs: list[str]  # numbers of tensors, as texts
    output: str
    operator: Any  # of the file
    tensors: TfliteTensors

    def has(self, index: int) -> bool:
        return len(self.inputs) > index and self.inputs[index] != ""

    def shape(self, index: int = 0) -> list[int]:
        """Of an input, as the file says."""
        return self.tensors.shape(int(self.inputs[index]))

    def options(self, kind: str) -> Any:
        """The settings of the operation. Raises: ValueError if it has others."""
        import tflite

        table = self.operator.BuiltinOptions()
        if table is None or self.operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind):
            raise ValueError(f"{self.name} has no settings, or those of another operation")
        options = getattr(tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        return options


# What an operation does with its result, by the format's number: its name, and the limits that it sets.
ACTIVATIONS = {1: ("RELU", 0.0, np.inf), 2: ("RELU_N1_TO_1", -1.0, 1.0), 3: ("RELU6", 0.0, 6.0)}
ACTIVATED = {  # operations that have such, and their settings
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
}


def add_operation(builder: GraphBuilder, node: Node) -> None:
    """Add an operation, and apart from it what it does with its result.

    Raises: NotOursError if MobileNetV2 has no such operation; ValueError for a damaged file.
    """
    require(node.kind in OPERATIONS and node.has(0))
    number = node.options(ACTIVATED[node.kind]).FusedActivationFunction() if node.kind in ACTIVATED else 0
    limits = node.tensors.limits(int(node.output)) if node.kind in ACTIVATED else None
    require(number == 0 or number in ACTIVATIONS)
    inner = node._replace(output=f"{node.output} before its activation")
    if number:
        OPERATIONS[node.kind](builder, inner)
        what, low, high = ACTIVATIONS[number]
        builder.add_clip(what, f"{what} of {node.name}", inner.output, node.output, low, high)
    elif limits is not None and limits[0] >= 0:
        OPERATIONS[node.kind](builder, inner)
        builder.add_rounding(f"limits of {node.name}", inner.output, node.output, *limits)
    else:
        OPERATIONS[node.kind](builder, node)


def add_convolution(builder: GraphBuilder, node: Node) -> None:
    """Weights [out, height, width, in / groups]."""
    options = node.options("Conv2DOptions")
    weight = to_tensor(builder.constant(node.inputs[1]))
    require(weight.dim() == 4 and weight.shape[3] > 0)
    channels = node.shape()[-1]
    if channels % weight.shape[3]:
        has = f"{node.name} has weights for {counted(weight.shape[3], 'channel')}"
        raise ValueError(f"{has}, and {counted(channels, 'comes', 'come')}")
    add_any_convolution(builder, node, weight.permute(0, 3, 1, 2), options, channels // weight.shape[3])


def add_depthwise_convolution(builder: GraphBuilder, node: Node) -> None:
    """Weights [1, height, width, channels * multiplier]."""
    options = node.options("DepthwiseConv2DOptions")
    weight = to_tensor(builder.constant(node.inputs[1]))
    require(weight.dim() == 4 and weight.shape[0] == 1)
    groups = node.shape()[-1]
    if groups < 1 or weight.shape[3] % groups:
        has = f"{node.name} has weights for {counted(weight.shape[3], 'channel')}"
        raise ValueError(f"{has}, and {groups} come")
    add_any_convolution(builder, node, weight.permute(3, 0, 1, 2), options, groups)


def add_any_convolution(builder: GraphBuilder, node: Node, weight: Any, options: Any, groups: int) -> None:
    settings = {
        "stride": (options.StrideH(), options.StrideW()),
        "dilation": (options.DilationHFactor(), options.DilationWFactor()),
        "groups": groups,
        "padding": padding_of(options),
    }
    builder.add_convolution(node.name, node.inputs[0], node.output, weights_of(builder, node, weight), settings)


def padding_of(options: Any) -> str | tuple[int, int, int, int]:
    """Raises: ValueError if it is neither SAME nor VALID."""
    if options.Padding() not in (0, 1):
        raise ValueError(f"it has padding {options.Padding()}")
    return SAME if options.Padding() == 0 else (0, 0, 0, 0)


def weights_of(builder: GraphBuilder, node: Node, weight: Any) -> dict[str, Any]:
    return {"weight": weight} | ({"bias": to_tensor(builder.constant(node.inputs[2]))} if node.has(2) else {})


def add_fully_connected(builder: GraphBuilder, node: Node) -> None:
    """Weights [out, in]."""
    require(node.options("FullyConnectedOptions").WeightsFormat() == 0)  # 1: shuffled for a kernel
    tensors = weights_of(builder, node, to_tensor(builder.constant(node.inputs[1])))
    builder.add_linear(node.name, node.inputs[0], node.output, tensors)


def add_arithmetic(builder: GraphBuilder, node: Node) -> None:
    """ADD, SUB, MUL or DIV of two values, or of a value and a constant."""
    require(len(node.inputs) == 2)
    constants = [name for name in node.inputs if name in builder.constants]
    if not constants:
        require(node.kind == "ADD")
        return builder.add_sum(node.name, node.inputs, node.output)
    require(len(constants) == 1)
    is_first = constants[0] == node.inputs[0]
    constant = builder.constants[constants[0]].astype(np.float32)
    factor, shift = scale_of(node.kind.capitalize(), constant, is_first)
    builder.add_scale(node.name, node.inputs[int(is_first)], node.output, factor, shift)


def add_clip(builder: GraphBuilder, node: Node) -> None:
    low, high = {"RELU": (0, np.inf), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}[node.kind]
    builder.add_clip(node.kind, node.name, node.inputs[0], node.output, low, high)


def add_limit(builder: GraphBuilder, node: Node) -> None:
    """MINIMUM or MAXIMUM of a value and a constant."""
    constants = [name for name in node.inputs if name in builder.constants]
    require(len(node.inputs) == 2 and len(constants) == 1 and builder.constants[constants[0]].size == 1)
    source = node.inputs[int(constants[0] == node.inputs[0])]
    limit = float(builder.constants[constants[0]].item())
    low, high = (limit, np.inf) if node.kind == "MAXIMUM" else (-np.inf, limit)
    builder.add_clip(f"{node.kind} with {limit:g}", node.name, source, node.output, low, high)


def add_mean(builder: GraphBuilder, node: Node) -> None:
    axes = builder.constant(node.inputs[1]).reshape(-1).tolist()
    keeps_axes = bool(node.options("ReducerOptions").KeepDims())
    builder.add_mean(node.name, node.inputs[0], node.output, axes, keeps_axes)


def add_pooling(builder: GraphBuilder, node: Node) -> None:
    """Of the whole map also with the padding SAME, which then has nothing to add."""
    options = node.options("Pool2DOptions")
    kernel = (options.FilterHeight(), options.FilterWidth())
    require(options.Padding() == 1 or (options.StrideH(), options.StrideW()) == kernel)
    builder.add_pooling(node.name, node.inputs[0], node.output, kernel)


def add_padding(builder: GraphBuilder, node: Node) -> None:
    pads = builder.constant(node.inputs[1])
    require(pads.shape == (4, 2) and not (node.has(2) and builder.constant(node.inputs[2]).any()))
    builder.add_padding(node.name, node.inputs[0], node.output, pads[:, 0].tolist(), pads[:, 1].tolist())


def add_transposition(builder: GraphBuilder, node: Node) -> None:
    builder.add_transposition(node.name, node.inputs[0], node.output, builder.constant(node.inputs[1]).tolist())


def add_reshaping(builder: GraphBuilder, node: Node) -> None:
    if node.shape() == node.tensors.shape(int(node.output)):
        return builder.add_nothing(node.name, node.inputs[0], node.output)
    builder.add_reshaping(node.name, node.inputs[0], node.output)


def add_nothing(builder: GraphBuilder, node: Node) -> None:
    builder.add_nothing(node.name, node.inputs[0], node.output)


def add_cast(builder: GraphBuilder, node: Node) -> None:
    require(node.tensors.table(int(node.output)).Type() in FLOATS)  # integers would be rounded
    builder.add_nothing(node.name, node.inputs[0], node.output)


def add_quantisation(builder: GraphBuilder, node: Node) -> None:
    limits = node.tensors.limits(int(node.output))
    require(limits is not None)
    builder.add_rounding(node.name, node.inputs[0], node.output, *limits or (0.0, 0.0))


def add_softmax(builder: GraphBuilder, node: Node) -> None:
    require(node.options("SoftmaxOptions").Beta() == 1)
    builder.add(SOFTMAX, node.name, node.inputs[:1], node.output, builder.value(node.inputs[0]))


def add_sigmoid(builder: GraphBuilder, node: Node) -> None:
    builder.add(SIGMOID, node.name, node.inputs[:1], node.output, builder.value(node.inputs[0]))


OPERATIONS: dict[str, Callable[[GraphBuilder, Node], None]] = {
    "CONV_2D": add_convolution,
    "DEPTHWISE_CONV_2D": add_depthwise_convolution,
    "FULLY_CONNECTED": add_fully_connected,
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV"), add_arithmetic),
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"), add_clip),
    **dict.fromkeys(("MINIMUM", "MAXIMUM"), add_limit),
    "MEAN": add_mean,
    "AVERAGE_POOL_2D": add_pooling,
    **dict.fromkeys(("PAD", "PADV2"), add_padding),
    "TRANSPOSE": add_transposition,
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), add_reshaping),
    "DEQUANTIZE": add_nothing,
    "CAST": add_cast,
    "QUANTIZE": add_quantisation,
    "SOFTMAX": add_softmax,
    "LOGISTIC": add_sigmoid,
}


def transposed(values: Array, order: Array) -> Array:
    return values.transpose(order.tolist())


def reshaped(values: Array, shape: Array) -> Array:
    require(shape.size <= 8)
    return values.reshape(shape.reshape(-1).tolist())


# What operations make of constants; integers became numbers already when they were read.
FOLDED: dict[str, Callable[..., Array]] = {
    "DEQUANTIZE": lambda values: values.astype(np.float32),
    "TRANSPOSE": transposed,
    "RESHAPE": reshaped,
}
