# SPDX-License-Identifier: Apache-2.0
"""Operations of ONNX on int8 values, in place of those on floats: onnxruntime's format QOperator."""

from collections.abc import Callable

import numpy as np

from converting.graph_builder import Array, GraphBuilder, dequantised, require, to_tensor
from converting.onnx_operations import Node, add_rounding, check_integers, integers_of, settings_of


def weights_of(builder: GraphBuilder, node: Node, first: int, axis: int) -> Array:
    """The numbers that the weights stand for, of three inputs: integers, scale, zero point."""
    values, scale, zero_point = (builder.constant(name) for name in node.inputs[first : first + 3])
    builder.note_integers(str(values.dtype))
    return dequantised(values, scale, zero_point, axis)


def bias_of(builder: GraphBuilder, node: Node, index: int) -> Array:
    """A bias has the scale of the values times that of the weights."""
    scale = builder.constant(node.inputs[1]) * builder.constant(node.inputs[4]) * node.attributes.get("alpha", 1.0)
    return dequantised(builder.constant(node.inputs[index]), scale, None, 0)


def add_convolution(builder: GraphBuilder, node: Node) -> None:
    check_integers(builder, node, 0)
    weight = to_tensor(weights_of(builder, node, 3, axis=0))
    tensors = {"weight": weight} | ({"bias": to_tensor(bias_of(builder, node, 8))} if node.has(8) else {})
    inner = f"{node.output} before it is rounded"
    builder.add_convolution(node.name, node.inputs[0], inner, tensors, settings_of(node.attributes, weight))
    add_rounding(builder, node, inner, 6)


def add_sum(builder: GraphBuilder, node: Node) -> None:
    inner = f"{node.output} before it is rounded"
    check_integers(builder, node, 0)
    check_integers(builder, node, 3)
    builder.add_sum(node.name, [node.inputs[0], node.inputs[3]], inner)
    add_rounding(builder, node, inner, 6)


def add_global_pooling(builder: GraphBuilder, node: Node) -> None:
    require(not node.attributes.get("channels_last"))
    check_integers(builder, node, 0)
    require(builder.value(node.inputs[0]).layout == builder.layout)
    builder.add_mean(node.name, node.inputs[0], node.output, [2, 3], True)
    builder.integers[node.output] = integers_of(builder, node, 3)[:2]


def add_gemm(builder: GraphBuilder, node: Node) -> None:
    is_transposed = bool(node.attributes.get("transB"))
    require(not node.attributes.get("transA"))
    check_integers(builder, node, 0)
    weight = weights_of(builder, node, 3, axis=0 if is_transposed else 1) * np.float32(node.attributes.get("alpha", 1))
    tensors = {"weight": to_tensor(weight if is_transposed else weight.T)}
    if node.has(6):
        tensors["bias"] = to_tensor(bias_of(builder, node, 6))
    builder.add_linear(node.name, node.inputs[0], node.output, tensors)
    if node.has(7):
        builder.integers[node.output] = integers_of(builder, node, 7)[:2]


def add_product(builder: GraphBuilder, node: Node) -> None:
    check_integers(builder, node, 0)
    weight = to_tensor(weights_of(builder, node, 3, axis=1).T)
    builder.add_linear(node.name, node.inputs[0], node.output, {"weight": weight})
    builder.integers[node.output] = integers_of(builder, node, 6)[:2]


INTEGER_OPERATIONS: dict[str, Callable[[GraphBuilder, Node], None]] = {
    "QLinearConv": add_convolution,
    "QLinearMatMul": add_product,
    "QLinearAdd": add_sum,
    "QLinearGlobalAveragePool": add_global_pooling,
    "QGemm": add_gemm,
}
