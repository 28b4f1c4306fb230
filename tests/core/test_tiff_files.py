# SPDX-License-Identifier: Apache-2.0
"""TIFFs with damaged strips."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from numpy.random import default_rng
from pictures import COMPRESSIONS, decoded, noise, written

LEVELS = noise(64, 80) // 2 + 100  # no row of them is black


def strips(data: bytes) -> list[tuple[int, int]]:
    """(start, length) of each strip or tile of a TIFF."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return list(zip(file.pages[0].dataoffsets, file.pages[0].databytecounts, strict=True))


@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("compression", ["lzw", "deflate", "adobe_deflate", "packbits", "lzma", "jpeg"])
def test_tiff_with_a_strip_that_ends_early_is_refused(compression: str, tile: tuple[int, int] | None) -> None:
    data = written(LEVELS, photometric="rgb", compression=compression, tile=tile)
    for start, length in strips(data):
        damaged = bytearray(data)
        damaged[start + length // 2 : start + length] = bytes(length - length // 2)
        with pytest.raises(ValueError, match="^image: not a readable image"):
            decoded(bytes(damaged))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tiff_with_a_changed_byte_has_no_black_rows(compression: str) -> None:
    """Where there is a checksum, nothing but the stored pixels comes out."""
    data, generator = written(LEVELS, photometric="rgb", compression=compression), default_rng(0)
    places = strips(data)
    for _ in range(60):
        start, length = places[generator.integers(len(places))]
        damaged = bytearray(data)
        damaged[start + generator.integers(length)] ^= 1 << generator.integers(8)
        with contextlib.suppress(ValueError):
            image = decoded(bytes(damaged))
            assert image.any(axis=(1, 2)).all()
            assert "deflate" not in compression or np.array_equal(image, LEVELS)


@pytest.mark.parametrize("colours", ["rgb", "ycbcr"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_tiff_without_all_of_its_strips_is_refused(compression: str | None, colours: str) -> None:
    data = written(LEVELS, photometric=colours, compression=compression)
    assert decoded(data).shape == LEVELS.shape
    start, length = strips(data)[-1]
    beyond = data.replace(struct.pack("<I", start), struct.pack("<I", len(data) - length // 2))
    taller = data.replace(struct.pack("<HHII", 257, 4, 1, 64), struct.pack("<HHII", 257, 4, 1, 640))
    taller = taller.replace(struct.pack("<HHII", 257, 3, 1, 64), struct.pack("<HHII", 257, 3, 1, 640))
    for damaged in (beyond, taller):
        assert damaged != data
        with pytest.raises(ValueError, match="^image: not a readable image"):
            decoded(damaged)


def test_inflating_a_strip_of_a_tiff_stops_where_its_pixels_end() -> None:
    data = written(LEVELS, photometric="rgb", compression="deflate", rowsperstrip=64)
    ((start, length),) = strips(data)
    longer = zlib.compress(LEVELS.tobytes() * 100)
    damaged = bytearray(data + longer)
    damaged = damaged.replace(struct.pack("<I", start), struct.pack("<I", len(data)))
    damaged = damaged.replace(struct.pack("<I", length), struct.pack("<I", len(longer)))
    with pytest.raises(ValueError, match="^image: not a readable image"):
        decoded(bytes(damaged))
