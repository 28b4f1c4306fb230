# SPDX-License-Identifier: Apache-2.0
"""The constants of an ONNX file: its tensors, in it or in files beside it, and what their nodes make of them."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converting.graph_builder import Array, dequantised, num_values, require, shown

if TYPE_CHECKING:
    import onnx

# Bytes of a value, by the format's number of its type: floats and integers, those that MobileNetV2s are stored in.
ITEM_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 16: 2}


class OnnxTensors:
    """Reads tensors of one file; those in other files may lie in its folder alone, and in each of them only once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bytes_left: dict[str, int] = {}  # of each other file
        self.bytes_beside = 0  # read from other files

    def read(self, tensor: "onnx.TensorProto") -> Array:
        """Raises: ValueError if it has other values than it claims, or lies where it may not."""
        from onnx import TensorProto, numpy_helper

        if tensor.data_type not in ITEM_SIZES:
            raise ValueError(f"{shown(tensor.name)} has values of type {tensor.data_type}, which are no weights")
        count = num_values(tensor.dims)
        size = count * ITEM_SIZES[tensor.data_type]
        if tensor.data_location == TensorProto.EXTERNAL:
            inside = TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=self.read_beside(tensor, size))
            return numpy_helper.to_array(inside)
        lists = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
        has_all = len(tensor.raw_data) == size if tensor.HasField("raw_data") else count in map(len, lists)
        if not has_all or tensor.HasField("segment"):
            raise ValueError(f"{shown(tensor.name)} claims {count} values and has another number")
        return numpy_helper.to_array(tensor)

    def read_beside(self, tensor: "onnx.TensorProto", size: int) -> bytes:
        """The bytes of a tensor in another file of the folder. Raises: ValueError, FileNotFoundError."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if name in ("", ".", "..") or name != Path(name).name or "\\" in name or name != shown(name):
            raise ValueError(f"{shown(tensor.name)} lies in {shown(name)}, which is not a file of the same folder")
        offset, length = (int(entries.get(key, default)) for key, default in (("offset", "0"), ("length", str(size))))
        try:  # NOFOLLOW: a link could lead anywhere; NONBLOCK: opening a pipe would wait for its writer
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.folder / name}: no such file; it belongs to the model") from error
        except OSError as error:
            raise ValueError(f"{name} in its folder is a link, or not readable") from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            left = self.bytes_left.setdefault(name, status.st_size)
            is_inside = offset >= 0 and length == size <= left and offset + size <= status.st_size
            if not stat.S_ISREG(status.st_mode) or not is_inside:
                raise ValueError(f"{shown(tensor.name)} claims bytes that {name} does not have")
            self.bytes_left[name] = left - size
            self.bytes_beside += size
            file.seek(offset)
            return file.read(size)


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
    return np.broadcast_to(values, np.broadcast_shapes(values.shape, tuple(shape.tolist())))


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
}
