# SPDX-License-Identifier: Apache-2.0
"""The tensors of an ONNX file, in it or in files beside it."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from converting.graph_builder import Array, UnsuitableError, num_values, shown
from core.plurals import counted

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
            raise UnsuitableError(f"{shown(tensor.name)} has values of type {tensor.data_type}, which are no weights")
        count = num_values(tensor.dims)
        size = count * ITEM_SIZES[tensor.data_type]
        if tensor.data_location == TensorProto.EXTERNAL:
            inside = TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=self.read_beside(tensor, size))
            return numpy_helper.to_array(inside)
        lists = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
        has_all = len(tensor.raw_data) == size if tensor.HasField("raw_data") else count in map(len, lists)
        if not has_all or tensor.HasField("segment"):
            raise ValueError(f"{shown(tensor.name)} claims {counted(count, 'value')} and has another number")
        return numpy_helper.to_array(tensor)

    def read_beside(self, tensor: "onnx.TensorProto", size: int) -> bytes:
        """The bytes of a tensor in another file of the folder. Raises: ValueError, FileNotFoundError."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if name in ("", ".", "..") or name != Path(name).name or "\\" in name or name != shown(name):
            raise ValueError(f"{shown(tensor.name)} lies in {shown(name)}, which is not a file of the same folder")
        offset, length = (int(entries.get(key, default)) for key, default in (("offset", "0"), ("length", str(size))))
        try:
            descriptor = open_plain(self.folder / name)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.folder / name}: no such file; it belongs to the model") from error
        except OSError as error:
            raise ValueError(f"{name} in its folder is a link, or no file that can be read") from error
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


def open_plain(path: Path) -> int:
    """Open a file that is no link, which could lead anywhere, and no pipe, which would wait for its writer.

    Flags guard against an exchange after the look at it, where the system has them. Raises: OSError.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(f"{path}: not a plain file")
    return os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")))
