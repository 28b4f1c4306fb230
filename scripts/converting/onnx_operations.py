# SPDX-License-Identifier: Apache-2.0
"""What the operations of ONNX are in the words of graphs.py: https://onnx.ai/onnx/operators/."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from converting.graph_builder import NCHW, NHWC, GraphBuilder, UnsuitableError, require, scale_of, to_tensor
from converting.graphs import NOTHING, SAME, SIGMOID, SOFTMAX
from converting.onnx_folding import FOLDED

FLOATS = (1, 10, 11, 16)  # the format's numbers of the types


class Node(NamedTuple):
    """One operation of the file; `inputs` has "" for one that is left out."""

    kind: str
    name: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]

    def has(self, index: int) -> bool:
        return len(self.inputs) > index and self.inputs[index] != ""


def add_convolution(builder: GraphBuilder, node: Node) -> None:
    weight = to_tensor(builder.constant(node.inputs[1]))
    tensors = {"weight": weight} | ({"bias": to_tensor(builder.constant(node.inputs[2]))} if node.has(2) else {})
    settings = settings_of(node.attributes, weight)
    builder.add_convolution(node.name, node.inputs[0], node.output, tensors, settings)


def settings_of(attributes: dict[str, Any], weight: Tensor) -> dict[str, Any]:
    """Of a convolution. Raises: NotOursError if it is not of maps, or the file contradicts itself."""
    kernel = list(weight.shape[2:])
    require(len(kernel) == 2 and attributes.get("kernel_shape", kernel) == kernel)
    return {
        "stride": tuple(attributes.get("strides", (1, 1))),
        "dilation": tuple(attributes.get("dilations", (1, 1))),
        "groups": attributes.get("group", 1),
        "padding": padding_of(attributes),
    }


def padding_of(attributes: dict[str, Any]) -> str | tuple[int, int, int, int]:
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic == "SAME_UPPER":
        return SAME
    require(automatic in ("NOTSET", "VALID"))
    pads = [0] * 4 if automatic == "VALID" else attributes.get("pads", [0] * 4)
    require(len(pads) == 4 and min(pads) >= 0)
    top, left, bottom, right = pads
    return top, bottom, left, right


def add_batch_norm(builder: GraphBuilder, node: Node) -> None:
    require(node.attributes.get("spatial", 1) == 1)
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: to_tensor(builder.constant(node.inputs[1 + index])) for index, name in enumerate(names)}
    builder.add_batch_norm(node.name, node.inputs[0], node.output, tensors, float(node.attributes.get("epsilon", 1e-5)))


def add_clip(builder: GraphBuilder, node: Node) -> None:
    limits = []
    for index, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        limit = builder.constant(node.inputs[index]) if node.has(index) else node.attributes.get(name, default)
        require(np.size(limit) == 1)
        limits.append(float(np.asarray(limit).item()))
    builder.add_clip(f"Clip to {limits[0]:g} and {limits[1]:g}", node.name, node.inputs[0], node.output, *limits)


def add_relu(builder: GraphBuilder, node: Node) -> None:
    builder.add_clip("Relu", node.name, node.inputs[0], node.output, 0.0, np.inf)


def add_limit(builder: GraphBuilder, node: Node) -> None:
    """Min or Max of a value and a constant."""
    require(len(node.inputs) == 2)
    source, constant = split_inputs(builder, node)
    require(builder.constants[constant].size == 1)
    limit = float(builder.constants[constant].item())
    low, high = (limit, np.inf) if node.kind == "Max" else (-np.inf, limit)
    builder.add_clip(f"{node.kind} with {limit:g}", node.name, source, node.output, low, high)


def split_inputs(builder: GraphBuilder, node: Node) -> tuple[str, str]:
    """Of two inputs the one that flows and the one that is constant."""
    first, second = node.inputs
    require((first in builder.constants) != (second in builder.constants))
    return (second, first) if first in builder.constants else (first, second)


def add_arithmetic(builder: GraphBuilder, node: Node) -> None:
    """Add, Sub, Mul, Div or Sum of two values, or of a value and a constant."""
    require(len(node.inputs) == 2)
    if not any(name in builder.constants for name in node.inputs):
        require(node.kind in ("Add", "Sum"))
        return builder.add_sum(node.name, node.inputs, node.output)
    source, name = split_inputs(builder, node)
    is_first = name == node.inputs[0]
    factor, shift = scale_of(node.kind, builder.constants[name].astype(np.float32), is_first)
    builder.add_scale(node.name, source, node.output, factor, shift)


def add_mean(builder: GraphBuilder, node: Node) -> None:
    axes = builder.constant(node.inputs[1]).tolist() if node.has(1) else node.attributes.get("axes", [])
    builder.add_mean(node.name, node.inputs[0], node.output, axes, bool(node.attributes.get("keepdims", 1)))


def add_global_pooling(builder: GraphBuilder, node: Node) -> None:
    require(builder.value(node.inputs[0]).layout == builder.layout)
    builder.add_mean(node.name, node.inputs[0], node.output, [2, 3], True)


def add_pooling(builder: GraphBuilder, node: Node) -> None:
    require(padding_of(node.attributes) == (0, 0, 0, 0) and not node.attributes.get("ceil_mode"))
    require(set(node.attributes.get("dilations", [1])) == {1})
    builder.add_pooling(node.name, node.inputs[0], node.output, node.attributes["kernel_shape"])


def add_padding(builder: GraphBuilder, node: Node) -> None:
    require(node.attributes.get("mode", "constant") == "constant" and not node.has(3))
    filling = builder.constant(node.inputs[2]) if node.has(2) else np.float32(node.attributes.get("value", 0))
    if node.has(1) and node.inputs[1] not in builder.constants:
        reason = "its padding is worked out from the size of the image when it runs"
        raise UnsuitableError(reason, "export it with a fixed size")
    pads = builder.constant(node.inputs[1]).tolist() if node.has(1) else node.attributes["pads"]
    require(len(pads) == 8 and not np.any(filling))
    builder.add_padding(node.name, node.inputs[0], node.output, pads[:4], pads[4:])


def add_gemm(builder: GraphBuilder, node: Node) -> None:
    require(not node.attributes.get("transA"))
    weight = to_tensor(builder.constant(node.inputs[1])) * node.attributes.get("alpha", 1.0)
    require(weight.dim() == 2)
    tensors = {"weight": weight if node.attributes.get("transB") else weight.T}
    if node.has(2):
        bias = to_tensor(builder.constant(node.inputs[2])) * node.attributes.get("beta", 1.0)
        require(bias.numel() in (1, len(tensors["weight"])) and bias.numel() == max(bias.shape, default=1))
        tensors["bias"] = bias.reshape(-1).expand(len(tensors["weight"]))
    builder.add_linear(node.name, node.inputs[0], node.output, tensors)


def add_product(builder: GraphBuilder, node: Node) -> None:
    weight = to_tensor(builder.constant(node.inputs[1]))
    require(weight.dim() == 2)
    builder.add_linear(node.name, node.inputs[0], node.output, {"weight": weight.T})


def add_transposition(builder: GraphBuilder, node: Node) -> None:
    builder.add_transposition(node.name, node.inputs[0], node.output, node.attributes.get("perm", []))


def add_reshaping(builder: GraphBuilder, node: Node) -> None:
    builder.add_reshaping(node.name, node.inputs[0], node.output)


def add_nothing(builder: GraphBuilder, node: Node) -> None:
    builder.add_nothing(node.name, node.inputs[0], node.output)


def add_cast(builder: GraphBuilder, node: Node) -> None:
    require(node.attributes.get("to") in FLOATS)  # integers would be rounded
    builder.add_nothing(node.name, node.inputs[0], node.output)


def add_shape(builder: GraphBuilder, node: Node) -> None:
    """The lengths of a map's axes, from which torch's exporter works out what is padded."""
    value, attributes = builder.value(node.inputs[0]), node.attributes
    require(value.layout in (NCHW, NHWC))
    known = dict(zip("HW", value.size or (), strict=False))
    lengths = [known.get(axis) for axis in value.layout][attributes.get("start", 0) : attributes.get("end")]
    builder.add_other(node.kind, node.name, node.inputs, node.output)
    builder.shapes[node.output] = lengths


def add_length(builder: GraphBuilder, node: Node) -> None:
    """Some of the lengths of a map's axes: a constant where they are known."""
    require(node.inputs[0] in builder.shapes)
    lengths = builder.shapes[node.inputs[0]]
    rest = [builder.constant(name) if name else None for name in node.inputs[1:]]
    places = np.asarray(FOLDED[node.kind](node.attributes, np.arange(len(lengths)), *rest))
    found = [length for place in places.flat if (length := lengths[place]) is not None]
    require(len(found) == places.size)
    builder.keep(node.output, np.array(found, np.int64).reshape(places.shape))


def add_quantisation(builder: GraphBuilder, node: Node) -> None:
    add_rounding(builder, node, node.inputs[0], 1)


def add_rounding(builder: GraphBuilder, node: Node, source: str, first: int) -> None:
    """A value becomes integers, whose scale and zero point are inputs from `first` on."""
    scale, zero_point, kind = integers_of(builder, node, first)
    limits = np.iinfo(kind)
    low, high = (scale * (limit - zero_point) for limit in (limits.min, limits.max))
    builder.add_rounding(f"limits of {node.name}" if first > 1 else node.name, source, node.output, low, high)
    builder.integers[node.output] = scale, zero_point


def integers_of(builder: GraphBuilder, node: Node, first: int) -> tuple[float, int, "np.dtype[Any]"]:
    """Scale, zero point and type of integers of one scale."""
    scale = builder.constant(node.inputs[first])
    zero_point = builder.constant(node.inputs[first + 1]) if node.has(first + 1) else np.zeros(1, np.uint8)
    require(scale.size == zero_point.size == 1 and zero_point.dtype.kind in "iu")
    return float(scale.item()), int(zero_point.item()), zero_point.dtype


def integers_before(builder: GraphBuilder, source: str) -> str:
    """Where integers were made, which may have got another shape since."""
    while source not in builder.integers and source in builder.makers and builder.makers[source].kind == NOTHING:
        source = builder.makers[source].inputs[0]
    return source


def check_integers(builder: GraphBuilder, node: Node, index: int) -> None:
    """Raises: NotOursError if an input's integers stand for other numbers than those that they were made of."""
    require(
        builder.integers.get(integers_before(builder, node.inputs[index])) == integers_of(builder, node, index + 1)[:2]
    )


def add_dequantisation(builder: GraphBuilder, node: Node) -> None:
    """Nothing, as the integers stood for these numbers; for the bytes of the picture itself a scale."""
    scale, zero_point, kind = integers_of(builder, node, 1)
    source = integers_before(builder, node.inputs[0])
    if source in builder.integers or source in builder.makers:
        check_integers(builder, node, 0)
        return builder.add_nothing(node.name, node.inputs[0], node.output)
    require(kind == np.uint8)
    factor = np.asarray(scale, np.float32)
    builder.add_scale(node.name, node.inputs[0], node.output, factor, -factor * zero_point)


def add_softmax(builder: GraphBuilder, node: Node) -> None:
    builder.add(SOFTMAX, node.name, node.inputs[:1], node.output, builder.value(node.inputs[0]))


def add_sigmoid(builder: GraphBuilder, node: Node) -> None:
    builder.add(SIGMOID, node.name, node.inputs[:1], node.output, builder.value(node.inputs[0]))


def add_dropout(builder: GraphBuilder, node: Node) -> None:
    require(not node.has(2) or not builder.constant(node.inputs[2]).any())
    builder.add_nothing(node.name, node.inputs[0], node.output)


OPERATIONS: dict[str, Callable[[GraphBuilder, Node], None]] = {
    "Conv": add_convolution,
    "BatchNormalization": add_batch_norm,
    "Clip": add_clip,
    "Relu": add_relu,
    "Min": add_limit,
    "Max": add_limit,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), add_arithmetic),
    "ReduceMean": add_mean,
    "GlobalAveragePool": add_global_pooling,
    "AveragePool": add_pooling,
    "Pad": add_padding,
    "Gemm": add_gemm,
    "MatMul": add_product,
    "Transpose": add_transposition,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), add_reshaping),
    "Identity": add_nothing,
    "Cast": add_cast,
    "Shape": add_shape,
    **dict.fromkeys(("Gather", "Slice"), add_length),
    "Dropout": add_dropout,
    "QuantizeLinear": add_quantisation,
    "DequantizeLinear": add_dequantisation,
    "Softmax": add_softmax,
    "Sigmoid": add_sigmoid,
}
