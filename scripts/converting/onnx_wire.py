# SPDX-License-Identifier: Apache-2.0
"""Counting the parts of an ONNX file before a parser makes an object of about 150 bytes of each, which takes two."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

MOST_PARTS = 300_000  # a MobileNetV2 of int8 values has about 20,000
DEEPEST = 20
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # how Protocol Buffers write a field
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}


def check_parts(content: bytes) -> None:
    """Raises: ValueError if the bytes are no ONNX model, or one of far more parts than a network has."""
    from onnx import ModelProto

    # Ranges that hold a message each, their kind and how deep they are; no recursion, as a file could be nested deep.
    ranges: list[tuple[int, int, Descriptor, int]] = [(0, len(content), ModelProto.DESCRIPTOR, 0)]
    num_parts = 0
    while ranges:
        position, end, kind, depth = ranges.pop()
        if depth > DEEPEST:
            raise ValueError("it is nested too deep")
        while position < end:
            num_parts += 1
            if num_parts > MOST_PARTS:
                raise ValueError(f"it has more than {MOST_PARTS} parts")
            tag, position = read_varint(content, position)
            start, position = skip_field(content, tag & 7, position)
            field = kind.fields_by_number.get(tag >> 3)
            if field is not None and field.message_type is not None and tag & 7 == BYTES:
                ranges.append((start, position, field.message_type, depth + 1))
        if position != end:
            raise ValueError("it ends in the middle of a part")


def skip_field(content: bytes, wire: int, position: int) -> tuple[int, int]:
    """Where the value of a field begins, without its length, and ends."""
    if wire == VARINT:
        return position, read_varint(content, position)[1]
    if wire == BYTES:
        size, position = read_varint(content, position)
    elif wire in FIXED_SIZES:
        size = FIXED_SIZES[wire]
    else:
        raise ValueError("its bytes are not those of Protocol Buffers")
    if position + size > len(content):
        raise ValueError("its end is missing")
    return position, position + size


def read_varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of up to 64 bits in groups of 7, and where it ends."""
    number = 0
    for index in range(10):
        if position + index >= len(content):
            raise ValueError("its end is missing")
        byte = content[position + index]
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, position + index + 1
    raise ValueError("its bytes are not those of Protocol Buffers")
