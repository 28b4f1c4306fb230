# SPDX-License-Identifier: Apache-2.0
"""Building a Graph from the operations of a file in their order, whatever the order of axes that the file has."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converting.graphs import (
    ADD,
    BATCH_NORM,
    CONVOLUTION,
    LINEAR,
    MEAN,
    NOTHING,
    OTHER,
    PAD,
    RELU6,
    SAME,
    SCALE,
    Graph,
    Operation,
)
from core.plurals import counted

Array = NDArray[Any]

# How a value lies in the file: a map, or one number a channel, which has the axes N and C, and others of size 1.
NCHW, NHWC, POOLED = "NCHW", "NHWC", "pooled"
MOST_OPERATIONS = 5000  # a MobileNetV2 has about 70, or 400 with everything around its int8 values
MOST_COPIES = 16  # bytes of weights made for each byte of the file; int8 values that become float32 take 4


class UnsuitableError(ValueError):
    """A file that is whole, but not of a network that is read here."""

    def __init__(self, reason: str, remedy: str = "name a file of an image classifier") -> None:
        super().__init__(f"{reason}; {remedy}")


class NotOursError(Exception):
    """An operation, or a form of one, that MobileNetV2 does not have."""


def require(condition: bool) -> None:
    """Raises: NotOursError unless `condition` holds."""
    if not condition:
        raise NotOursError


class Value(NamedTuple):
    """What is known of a value that flows through the network."""

    layout: str
    size: tuple[int, int] | None  # height and width of a map, where they can be worked out


class GraphBuilder:
    """Takes the operations of a file in their order, and the constants among its values.

    What adds an operation raises NotOursError where MobileNetV2 has no such, and ValueError for a damaged file.
    """

    def __init__(self, layout: str, num_bytes: int) -> None:
        """`layout`: of the maps that the file's convolutions take; `num_bytes`: length of the file."""
        self.layout = layout
        self.bytes_left = MOST_COPIES * 2**16
        self.allow(num_bytes)
        self.constants: dict[str, Array] = {}
        self.values: dict[str, Value] = {}
        self.operations: list[Operation] = []
        self.makers: dict[str, Operation] = {}  # of each value
        self.clips: dict[str, tuple[str, float, float]] = {}  # of a value: what was clipped, and to what
        self.shapes: dict[str, list[int | None]] = {}  # lengths of axes that the file asks for, as far as known
        self.integers: dict[str, tuple[float, int]] = {}  # scale and zero point of what was made an integer
        self.halves: dict[str, str] = {}  # what a mean over one of height and width was taken of
        self.notes: list[str] = []

    def allow(self, num_bytes: int) -> None:
        """Count bytes of the file, or of one beside it, whose weights may be taken."""
        self.bytes_left += MOST_COPIES * num_bytes

    def keep(self, name: str, constant: Array) -> None:
        """Take a constant that was worked out. Raises: ValueError if the file makes too many."""
        self.check_new(name)
        self.spend(constant.nbytes)
        self.constants[name] = constant

    def constant(self, name: str) -> Array:
        require(name in self.constants)
        return self.constants[name]

    def value(self, name: str) -> Value:
        require(name not in self.constants)
        if name not in self.values:
            raise ValueError(f"it uses {shown(name)} before that is made")
        return self.values[name]

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[str],
        output: str,
        value: Value,
        tensors: dict[str, Tensor] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.check_new(output)
        if len(self.operations) == MOST_OPERATIONS:
            raise UnsuitableError(f"it has more than {MOST_OPERATIONS} operations")
        tensors = tensors or {}
        self.spend(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
        operation = Operation(kind, shown(name), tuple(inputs), output, tensors, settings or {})
        self.operations.append(operation)
        self.makers[output] = operation
        self.values[output] = value

    def check_new(self, name: str) -> None:
        if name in self.values or name in self.constants:
            raise ValueError(f"it makes {shown(name)} twice")

    def spend(self, num_bytes: int) -> None:
        self.bytes_left -= num_bytes
        if self.bytes_left < 0:
            raise ValueError("it asks for far more weights than it has bytes")

    def add_other(self, what: str, name: str, inputs: Sequence[str], output: str) -> None:
        values = [self.value(source) for source in inputs if source not in self.constants]
        inputs = [source for source in inputs if source not in self.constants]
        self.add(OTHER, name, inputs, output, values[0] if values else Value(POOLED, None), None, {"what": shown(what)})

    def add_nothing(self, name: str, source: str, output: str) -> None:
        self.add(NOTHING, name, [source], output, self.value(source))

    def add_convolution(
        self, name: str, source: str, output: str, tensors: dict[str, Tensor], settings: dict[str, Any]
    ) -> None:
        value, weight = self.value(source), tensors["weight"]
        require(weight.dim() == 4 and weight.numel() > 0 and value.layout in (self.layout, POOLED))
        kernel = (weight.shape[2], weight.shape[3])
        require(value.layout != POOLED or kernel == (1, 1))
        require(len(settings["stride"]) == len(settings["dilation"]) == 2)
        if min(*settings["stride"], *settings["dilation"], settings["groups"]) < 1:
            raise ValueError(f"the convolution {shown(name)} has a stride, a dilation or groups below 1")
        check_bias(name, tensors)
        size = after_convolution(value.size, kernel, settings)
        self.add(CONVOLUTION, name, [source], output, Value(value.layout, size), tensors, settings)

    def add_batch_norm(self, name: str, source: str, output: str, tensors: dict[str, Tensor], eps: float) -> None:
        value = self.value(source)
        require(value.layout in (self.layout, POOLED))
        require(len({tensor.shape for tensor in tensors.values()}) == 1 and tensors["weight"].dim() == 1)
        self.add(BATCH_NORM, name, [source], output, value, tensors, {"eps": eps})

    def add_linear(self, name: str, source: str, output: str, tensors: dict[str, Tensor]) -> None:
        require(self.value(source).layout == POOLED and tensors["weight"].dim() == 2)
        check_bias(name, tensors)
        self.add(LINEAR, name, [source], output, Value(POOLED, None), tensors)

    def add_sum(self, name: str, sources: Sequence[str], output: str) -> None:
        first, second = (self.value(source) for source in sources)
        require(first.layout == second.layout)
        self.add(ADD, name, sources, output, first)

    def add_scale(self, name: str, source: str, output: str, factor: Array | float, shift: Array | float) -> None:
        value = self.value(source)
        both = [per_channel(np.asarray(array), value.layout) for array in (factor, shift)]
        factors, shifts = (to_tensor(array) for array in np.broadcast_arrays(*both))
        self.add(SCALE, name, [source], output, value, {"factor": factors, "shift": shifts})

    def add_clip(self, what: str, name: str, source: str, output: str, low: float, high: float) -> None:
        """Limits on a value, which are RELU6 together with those set before."""
        origin, earlier_low, earlier_high = self.clips.get(source, (source, -np.inf, np.inf))
        require(low <= high)
        low, high = (min(max(limit, earlier_low), earlier_high) for limit in (low, high))
        kind = RELU6 if (low, high) == (0, 6) else OTHER
        settings = {} if kind == RELU6 else {"what": shown(what)}
        self.add(kind, name, [origin], output, self.value(source), None, settings)
        self.clips[output] = origin, low, high

    def add_rounding(self, name: str, source: str, output: str, low: float, high: float) -> None:
        """A value becomes one of the integers that stand for numbers from `low` to `high`.

        Programs that quantise leave out a ReLU6 which these limits stand for; the upper one is then the highest value
        that was met. Logits are limited too, by nothing but the values that were met.
        """
        kind = self.kind_before(source)
        if low < 0 or self.value(source).layout == POOLED or kind not in (CONVOLUTION, BATCH_NORM, ADD):
            self.add_nothing(name, source, output)
        elif kind != ADD and high < 6.05:  # 6 and half a step
            self.add(RELU6, name, [source], output, self.value(source))
        else:
            self.add_other("a cut at 0, as of ReLU, by int8 values", name, [source], output)

    def kind_before(self, source: str) -> str | None:
        """Of the operation that decides where 0 lies in a value; None if that is the image."""
        maker = self.makers.get(source)
        while maker is not None and maker.kind in (NOTHING, SCALE, PAD):
            maker = self.makers.get(maker.inputs[0])
        return None if maker is None else maker.kind

    def add_padding(self, name: str, source: str, output: str, before: Sequence[int], after: Sequence[int]) -> None:
        value = self.value(source)
        require(value.layout in (NCHW, NHWC) and len(before) == len(after) == 4)
        sides = {axis: (int(one), int(other)) for axis, one, other in zip(value.layout, before, after, strict=True)}
        padding = (*sides["H"], *sides["W"])
        require(sides["N"] == sides["C"] == (0, 0) and min(padding) >= 0)
        size = None if value.size is None else (value.size[0] + sum(padding[:2]), value.size[1] + sum(padding[2:]))
        self.add(PAD, name, [source], output, Value(value.layout, size), None, {"padding": padding})

    def add_mean(self, name: str, source: str, output: str, axes: Sequence[int], keeps_axes: bool) -> None:
        """A mean over axes of a map: both of height and width at once, or one after the other."""
        letters = self.value(source).layout
        require(letters != POOLED and len(axes) > 0 and all(-len(letters) <= axis < len(letters) for axis in axes))
        taken = {letters[axis] for axis in axes}
        require(taken <= {"H", "W"})
        if len(taken) == 2 or source in self.halves:
            self.add(MEAN, name, [self.halves.get(source, source)], output, Value(POOLED, None))
            return
        left = letters.replace(taken.pop(), "1" if keeps_axes else "")
        settings = {"what": "a mean over one of height and width"}
        self.add(OTHER, name, [source], output, Value(left, None), None, settings)
        self.halves[output] = source

    def add_pooling(self, name: str, source: str, output: str, kernel: Sequence[int]) -> None:
        """An average over windows without padding, which is a mean where one of them is the whole map."""
        value = self.value(source)
        require(value.layout == self.layout and value.size == tuple(kernel))
        self.add(MEAN, name, [source], output, Value(POOLED, None))

    def add_transposition(self, name: str, source: str, output: str, order: Sequence[int]) -> None:
        value = self.value(source)
        if value.layout == POOLED:
            require(len(order) > 0 and order[0] == 0)
            return self.add_nothing(name, source, output)
        require(value.layout in (NCHW, NHWC) and sorted(order) == [0, 1, 2, 3])
        layout = "".join(value.layout[axis] for axis in order)
        require(layout in (NCHW, NHWC))
        self.add(NOTHING, name, [source], output, Value(layout, value.size))

    def add_reshaping(self, name: str, source: str, output: str) -> None:
        """Another shape, which for a map could exchange its values."""
        require(self.value(source).layout == POOLED)
        self.add_nothing(name, source, output)

    def finish(self, input: str, output: str, normalisation: tuple[list[float], list[float]] | None) -> Graph:
        """The graph of what the output depends on. Raises: ValueError if that is not the input."""
        wanted, kept = {output}, list[Operation]()
        for operation in reversed(self.operations):
            if operation.output in wanted:
                wanted.update(operation.inputs)
                kept.append(operation)
        if not kept or input not in wanted:
            raise UnsuitableError("its output does not depend on its input")
        size = self.values[input].size
        return Graph(with_biases(kept[::-1]), input, output, size, normalisation, self.notes)

    def note_integers(self, kind: str) -> None:
        note = (
            f"The weights of the file were {kind}; each became the float number that it stands for, so the network "
            f"computes close to, but not exactly, what the {kind} file does; that rounds the values between layers too."
        )
        if note not in self.notes:
            self.notes.append(note)


def with_biases(operations: list[Operation]) -> list[Operation]:
    """The operations with a constant that is added right after a layer as the bias of the layer."""
    uses = Counter(source for operation in operations for source in operation.inputs)
    merged: dict[str, Operation] = {}
    for operation in operations:
        layer = merged.get(operation.inputs[0]) if operation.kind == SCALE else None
        if layer is None or not is_bias(operation, layer) or uses[layer.output] > 1:
            merged[operation.output] = operation
            continue
        bias = operation.tensors["shift"].expand(len(layer.tensors["weight"]))
        del merged[layer.output]
        merged[operation.output] = layer._replace(output=operation.output, tensors=layer.tensors | {"bias": bias})
    return list(merged.values())


def is_bias(scale: Operation, layer: Operation) -> bool:
    if layer.kind not in (CONVOLUTION, LINEAR) or "bias" in layer.tensors:
        return False
    channels = len(layer.tensors["weight"])
    return bool((scale.tensors["factor"] == 1).all()) and scale.tensors["shift"].numel() in (1, channels)


def check_bias(name: str, tensors: dict[str, Tensor]) -> None:
    bias, channels = tensors.get("bias"), len(tensors["weight"])
    if bias is not None and bias.shape != (channels,):
        has = f"{shown(name)} has {counted(channels, 'channel')}"
        raise ValueError(f"{has} and a bias of the shape {list(bias.shape)}")


def after_convolution(
    size: tuple[int, int] | None, kernel: tuple[int, int], settings: dict[str, Any]
) -> tuple[int, int] | None:
    """Height and width of what a convolution makes; None where it makes nothing or they are not known."""
    if size is None:
        return None
    stride, dilation, padding = settings["stride"], settings["dilation"], settings["padding"]
    if padding == SAME:
        return -(-size[0] // stride[0]), -(-size[1] // stride[1])
    reach = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
    height = (size[0] + padding[0] + padding[1] - reach[0]) // stride[0] + 1
    width = (size[1] + padding[2] + padding[3] - reach[1]) // stride[1] + 1
    return (height, width) if min(height, width) > 0 else None


def scale_of(kind: str, constant: Array, is_first: bool) -> tuple[Array | float, Array | float]:
    """The factor and the shift that stand for "Add", "Sub", "Mul" or "Div" with a constant."""
    require(kind in ("Add", "Sub", "Mul", "Div") and not (kind == "Div" and is_first))
    if kind == "Add":
        return 1.0, constant
    if kind == "Sub":
        return (-1.0, constant) if is_first else (1.0, -constant)
    return (constant if kind == "Mul" else 1 / constant), 0.0


def per_channel(constant: Array, layout: str) -> Array:
    """A constant that meets a value, as 1 number or 1 a channel. Raises: NotOursError if it is neither."""
    if constant.size != 1:
        lengths = (1,) * (len(layout) - constant.ndim) + constant.shape
        channels = max(lengths, default=0) if layout == POOLED else lengths[layout.index("C")]
        require(layout == POOLED or len(lengths) == len(layout))
        require(constant.size == channels > 0)
    return constant.reshape(-1)


def dequantised(values: Array, scale: Array, zero_point: Array | None, axis: int) -> Array:
    """The numbers that integers stand for. Raises: ValueError where there is not 1 scale, or 1 for each on the axis."""
    offset = np.zeros_like(scale) if zero_point is None else zero_point
    shape = [1] * values.ndim
    if scale.size != 1:
        if not -values.ndim <= axis < values.ndim or scale.ndim != 1 or scale.size != values.shape[axis]:
            raise ValueError(f"it has {scale.size} scales for integers of the shape {list(values.shape)}")
        shape[axis] = scale.size
    if offset.size not in (1, scale.size):
        raise ValueError(f"it has {counted(scale.size, 'scale')} and {offset.size} zero points")
    offsets = np.broadcast_to(offset.reshape(-1), scale.size).reshape(shape).astype(np.float32)
    return (values.astype(np.float32) - offsets) * scale.reshape(shape).astype(np.float32)


def num_values(lengths: Any) -> int:
    """How many values a shape has. Raises: ValueError if it has a length below 0, or more axes than anything has."""
    if len(lengths) > 8 or any(length < 0 for length in lengths):
        raise ValueError(f"a tensor has the shape {list(lengths[:9])}")
    count = 1
    for length in lengths:
        count *= length
    return count


def to_tensor(values: Array) -> Tensor:
    """Numbers of any type as float32, in memory of their own."""
    return torch.from_numpy(np.array(values, dtype=np.float32))


def shown(text: str) -> str:
    """A name in a file, fit for a line of text."""
    return re.sub(r"[^ -~]", "?", text[:80])


def reason_of(error: Exception) -> str:
    """Why a file could not be read, in a few printable words."""
    words = str(error).strip() if isinstance(error, ValueError) else ""
    if isinstance(error, MemoryError):
        words = "it asks for more memory than there is"
    return re.sub(r"[^ -~]", "?", (words or "its parts do not fit together").splitlines()[0])[:160]
