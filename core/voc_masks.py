# SPDX-License-Identifier: Apache-2.0
"""The masks of Pascal VOC: PNG files of indices. Errors begin with the path."""

import struct

import numpy as np

PNG_START = struct.Struct(">8s4x4sIIBB")  # signature, IHDR, width, height, bits, colour type
GREY, PALETTE = 0, 3


def mask_size(path: str) -> tuple[int, int]:
    """Height and width of a mask. Raises: OSError; ValueError unless it is a PNG of indices, whatever their colours."""
    with open(path, "rb") as file:
        start = file.read(PNG_START.size)
    if len(start) < PNG_START.size:
        raise ValueError(f"{path}: no PNG")
    signature, kind, width, height, bits, colour = PNG_START.unpack(start)
    if (signature, kind) != (b"\x89PNG\r\n\x1a\n", b"IHDR"):
        raise ValueError(f"{path}: no PNG")
    if colour != PALETTE and (colour, bits) != (GREY, 8):
        raise ValueError(
            f"{path}: a PNG of colours; save the index of the class in each pixel: 8-bit grey, or with a palette"
        )
    return height, width


def indices_in(path: str, size: tuple[int, int]) -> np.ndarray:
    """The indices that occur in a mask. Raises: OSError; ValueError unless it is one of an image of `size`."""
    found = mask_size(path)
    if found != size:
        raise ValueError(f"{path}: {found[1]} x {found[0]} pixels, its image has {size[1]} x {size[0]}")
    return np.unique(read_indices(path))


def read_indices(path: str) -> np.ndarray:
    """The indices in a mask whose size was checked, uint8 [H, W]. Raises: OSError; ValueError if it is damaged."""
    import PIL.Image  # where masks are needed

    try:
        with PIL.Image.open(path, formats=["PNG"]) as picture:
            indices = np.asarray(picture)
    except Exception as error:  # Pillow raises almost anything for damaged files
        raise ValueError(f"{path}: damaged ({error}); make it again") from error
    if indices.ndim != 2 or indices.dtype != np.uint8:
        raise ValueError(f"{path}: not a PNG of indices; make it again")
    return indices
