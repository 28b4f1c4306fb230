# SPDX-License-Identifier: Apache-2.0
"""What the nodes of an ONNX file make of its constants: weights, and sizes that torch's exporter works out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from converting.graph_builder import Array, dequantised, num_values, require

LONGEST_LIST = 1000  # values of constants that are computed with, which are lengths of axes


def transposed(attributes: dict[str, Any], values: Array) -> Array:
    return values.transpose(attributes.get("perm"))


def reshaped(attributes: dict[str, Any], values: Array, shape: Array | None = None) -> Array:
    lengths = attributes["shape"] if shape is None else shape.tolist()
    require(not attributes.get("allowzero") and len(lengths) <= 8)
    return values.reshape([length or values.shape[axis] for axis, length in enumerate(lengths)])


def squeezed(attributes: dict[str, Any], values: Array, axes: Array | None = None) -> Array:
    wanted = attributes.get("axes") if axes is None else axes.tolist()
    return values.squeeze(None if wanted is None else tuple(wanted))


def unsqueezed(attributes: dict[str, Any], values: Array, axes: Array | None = None) -> Array:
    wanted = attributes["axes"] if axes is None else axes.tolist()
    require(values.ndim + len(wanted) <= 8)
    return np.expand_dims(values, tuple(wanted))


def flattened(attributes: dict[str, Any], values: Array) -> Array:
    axis = attributes.get("axis", 1)
    axis += values.ndim if axis < 0 else 0
    return values.reshape(num_values(values.shape[:axis]), -1)


def cast(attributes: dict[str, Any], values: Array) -> Array:
    """Between types of floats; of integers only those that are kept."""
    kind = {1: np.float32, 10: np.float16, 11: np.float64, 6: np.int32, 7: np.int64}.get(attributes["to"])
    require(kind is not None)
    return values.astype(kind)


def cast_like(attributes: dict[str, Any], values: Array, pattern: Array | None = None) -> Array:
    """As the type of a constant, or of a value of the network, which are floats."""
    return values.astype(np.float32 if pattern is None else pattern.dtype)


def expanded(attributes: dict[str, Any], values: Array, shape: Array) -> Array:
    """As a view, which takes no memory before its length is counted."""
    require(shape.size <= 8)
    return viewed(values, np.broadcast_shapes(values.shape, tuple(shape.tolist())))


def shape_of(attributes: dict[str, Any], values: Array) -> Array:
    return np.array(values.shape[attributes.get("start", 0) : attributes.get("end")], np.int64)


def dequantise(attributes: dict[str, Any], values: Array, scale: Array, zero_point: Array | None = None) -> Array:
    require(not attributes.get("block_size"))
    return dequantised(values, scale, zero_point, attributes.get("axis", 1))


def quantise(attributes: dict[str, Any], values: Array, scale: Array, zero_point: Array) -> Array:
    """Weights that the file holds as floats, and rounds. As ONNX says: half to even, and no further than the type."""
    require(not attributes.get("block_size") and zero_point.dtype.kind in "iu")
    axis = attributes.get("axis", 1)
    shape = [1] * values.ndim
    require(scale.size == 1 or (-values.ndim <= axis < values.ndim and scale.size == values.shape[axis]))
    if scale.size != 1:
        shape[axis] = scale.size
    limits = np.iinfo(zero_point.dtype)
    offset = np.broadcast_to(zero_point.reshape(-1), scale.size).reshape(shape)
    steps = np.rint(values / scale.reshape(shape)) + offset
    return np.clip(steps, limits.min, limits.max).astype(zero_point.dtype)


def is_short(*constants: Array) -> bool:
    """Whether constants together are the lengths or places of axes, and what is made of them takes no memory."""
    return sum(constant.size for constant in constants) <= LONGEST_LIST


def filled(attributes: dict[str, Any], shape: Array) -> Array:
    """As a view, which takes no memory before its length is counted."""
    value = attributes.get("value", np.zeros(1, np.float32))
    require(value.size == 1 and is_short(shape))
    return viewed(value.reshape(()), tuple(shape.tolist()))


def viewed(values: Array, lengths: tuple[int, ...]) -> Array:
    require(num_values(lengths) < 2**40)  # more overflow the count of their bytes
    return np.broadcast_to(values, lengths)


def joined(attributes: dict[str, Any], *parts: Array) -> Array:
    require(is_short(*parts))
    return np.concatenate(parts, attributes["axis"])


def sliced(
    attributes: dict[str, Any],
    values: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    """Places are attributes in old files, constants in others."""
    require((starts is None) == (ends is None))
    first = attributes["starts"] if starts is None else starts.tolist()
    last = attributes["ends"] if ends is None else ends.tolist()
    along = attributes.get("axes", list(range(len(first)))) if axes is None else axes.tolist()
    strides = [1] * len(first) if steps is None else steps.tolist()
    places = [slice(None)] * values.ndim
    for axis, *place in zip(along, first, last, strides, strict=True):
        places[axis] = slice(*place)
    return values[tuple(places)]


def gathered(attributes: dict[str, Any], values: Array, indices: Array) -> Array:
    require(values.ndim == 1 and is_short(values, indices))
    return values.take(indices)


def clipped(attributes: dict[str, Any], values: Array, low: Array | None = None, high: Array | None = None) -> Array:
    require(values.size == 1 and all(limit is None or limit.size == 1 for limit in (low, high)))
    low_limit = attributes.get("min", -np.inf) if low is None else low.item()
    high_limit = attributes.get("max", np.inf) if high is None else high.item()
    return np.minimum(np.maximum(values, low_limit), high_limit).astype(values.dtype)


def quotient(first: Array, second: Array) -> Array:
    """Of integers without what is after the point, as ONNX says."""
    if not first.dtype.kind == second.dtype.kind == "i":
        return first / second
    require(bool(second.all()))
    return np.abs(first) // np.abs(second) * np.sign(first) * np.sign(second)


def arithmetic(work: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """Of numbers, or of one list with a number or with a list as long."""

    def folded(attributes: dict[str, Any], first: Array, second: Array) -> Array:
        require(is_short(first, second) and (1 in (first.size, second.size) or first.shape == second.shape))
        return work(first, second)

    return folded


def remainder(attributes: dict[str, Any], first: Array, second: Array) -> Array:
    return arithmetic(np.fmod if attributes.get("fmod") else np.mod)(attributes, first, second)


def rounded(work: Callable[[Array], Array]) -> Callable[..., Array]:
    def folded(attributes: dict[str, Any], values: Array) -> Array:
        require(is_short(values))
        return work(values)

    return folded


# What nodes make of constants.
FOLDED: dict[str, Callable[..., Array]] = {
    "Transpose": transposed,
    "Reshape": reshaped,
    "Squeeze": squeezed,
    "Unsqueeze": unsqueezed,
    "Flatten": flattened,
    "Identity": lambda attributes, values: values,
    "Cast": cast,
    "CastLike": cast_like,
    "Expand": expanded,
    "Shape": shape_of,
    "DequantizeLinear": dequantise,
    "QuantizeLinear": quantise,
    "ConstantOfShape": filled,
    "Concat": joined,
    "Slice": sliced,
    "Gather": gathered,
    "Clip": clipped,
    "Add": arithmetic(np.add),
    "Sub": arithmetic(np.subtract),
    "Mul": arithmetic(np.multiply),
    "Div": arithmetic(quotient),
    "Mod": remainder,
    "Ceil": rounded(np.ceil),
    "Floor": rounded(np.floor),
}
