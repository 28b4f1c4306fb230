# SPDX-License-Identifier: Apache-2.0
"""The tensors of a TensorFlow Lite file, whose package checks no number that the file claims."""

from typing import Any, NamedTuple

import numpy as np

from converting.graph_builder import Array, UnsuitableError, dequantised, num_values, require, shown
from core.plurals import counted

# The format's numbers of the types that weights have, its lengths and axes among them.
TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 7: "<i2", 9: "i1"}
FLOATS = (0, 1)
UINT8, INT8 = 3, 9
LONGEST_VECTOR = 100


class Quantisation(NamedTuple):
    """The numbers that integers stand for: scale * (integer - zero point), of one pair or one for each on the axis."""

    scale: Array
    zero_point: Array | None
    axis: int


class TfliteTensors:
    """The tensors of a file, by their numbers."""

    def __init__(self, model: Any, subgraph: Any, num_bytes: int) -> None:
        """`num_bytes`: length of the file."""
        self.model, self.subgraph = model, subgraph
        self.text_left = 4 * num_bytes  # a name is read once or twice

    def table(self, index: int) -> Any:
        return element(self.subgraph.Tensors, self.subgraph.TensorsLength(), index)

    def name(self, index: int) -> str:
        return self.text_of(self.table(index).Name())

    def text_of(self, content: bytes | None) -> str:
        """A text in the file. Raises: ValueError if many parts of the file share a long one."""
        self.text_left -= len(content or b"")
        if self.text_left < 0:
            raise ValueError("its names are longer than it is")
        return shown((content or b"")[:100].decode("ascii", "replace"))

    def shape(self, index: int) -> list[int]:
        return integers(self.table(index).ShapeAsNumpy())

    def quantisation(self, index: int) -> Quantisation | None:
        """How integers stand for numbers; None if they are what they are."""
        table = self.table(index).Quantization()
        if table is None or table.ScaleLength() == 0 or self.table(index).Type() in FLOATS:
            return None
        zero_point = table.ZeroPointAsNumpy() if table.ZeroPointLength() else None
        return Quantisation(table.ScaleAsNumpy(), zero_point, table.QuantizedDimension())

    def limits(self, index: int) -> tuple[float, float] | None:
        """The lowest and the highest number that a value of one scale can be; None for floats."""
        quantisation = self.quantisation(index)
        if quantisation is None or quantisation.scale.size != 1 or self.table(index).Type() not in TYPES:
            return None
        scale = float(quantisation.scale.item())
        zero_point = 0 if quantisation.zero_point is None else int(quantisation.zero_point.item())
        integer = np.iinfo(TYPES[self.table(index).Type()])
        return scale * (integer.min - zero_point), scale * (integer.max - zero_point)

    def constant(self, index: int) -> Array | None:
        """The numbers that a tensor holds, those that its integers stand for; None for one that is computed.

        Raises: NotOursError for other types; ValueError if it has other bytes than it claims.
        """
        tensor = self.table(index)
        buffer = element(self.model.Buffers, self.model.BuffersLength(), tensor.Buffer())
        if buffer.DataLength() == 0:
            return None
        require(tensor.Type() in TYPES)
        if tensor.Sparsity() is not None:
            raise UnsuitableError(f"the weights {self.name(index)} are sparse")
        kind, shape = np.dtype(TYPES[tensor.Type()]), self.shape(index)
        content = buffer.DataAsNumpy()
        if num_values(shape) * kind.itemsize != content.size:
            claims = f"claims {counted(num_values(shape), 'value')}"
            raise ValueError(f"{self.name(index)} {claims} and has {counted(content.size, 'byte')}")
        values = np.frombuffer(content.tobytes(), kind).reshape(shape)
        quantisation = self.quantisation(index)
        return values if quantisation is None else dequantised(values, *quantisation)


def element(vector: Any, length: int, index: int) -> Any:
    """Raises: ValueError if the vector of the file has no such element: the package does not check that."""
    if not 0 <= index < length:
        raise ValueError(f"it names part {index} of {length}")
    return vector(index)


def integers(vector: Any) -> list[int]:
    """A short vector of the file, which is 0 where it is left out. Raises: ValueError if it is long.

    Many parts of a file can share one.
    """
    if not isinstance(vector, int) and len(vector) > LONGEST_VECTOR:
        raise ValueError(f"it has a list of {len(vector)} axes or values, where {LONGEST_VECTOR} are many")
    return [] if isinstance(vector, int) else vector.tolist()
