# SPDX-License-Identifier: Apache-2.0
"""TIFF, which Pillow decodes: OpenCV gives a black picture, or black rows, where libtiff reports an error."""

import enum
import io
import math
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from core.pixels import MAX_PIXELS, ORIENTATION_TAG, Image, KindError, Size, pillow_pixels, turn_upright

if TYPE_CHECKING:  # loaded when the first file needs it
    import PIL.Image


class TiffTag(enum.IntEnum):
    """The tags that say what a TIFF is, how much memory it takes and where its strips or tiles lie."""

    SUBFILE = 254  # bit 0: a reduced copy of another picture
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    COLOURS = 262
    STRIP_OFFSETS = 273
    SAMPLES = 277
    STRIP_ROWS = 278
    STRIP_BYTES = 279
    PLANES = 284  # 2: each channel apart
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SAMPLE_FORMAT = 339
    SUBSAMPLING = 530
    DNG_VERSION = 50706


TIFF_TAGS = frozenset(TiffTag)
TIFF_LISTS = frozenset(
    {
        *(TiffTag.BITS, TiffTag.SAMPLE_FORMAT, TiffTag.COLOUR_MAP, TiffTag.SUBSAMPLING),
        *(TiffTag.STRIP_OFFSETS, TiffTag.STRIP_BYTES, TiffTag.TILE_OFFSETS, TiffTag.TILE_BYTES),
    }
)
TIFF_TYPES = {3: 2, 4: 4}  # type -> bytes of a value
NO_COMPRESSION, JPEG_COMPRESSION, DEFLATE = 1, 7, (8, 32946)
# none, CCITT, LZW, JPEG, Deflate, PackBits, Deflate, LZMA, Zstandard
TIFF_COMPRESSIONS = (NO_COMPRESSION, 2, 3, 4, 5, JPEG_COMPRESSION, 8, 32773, 32946, 34925, 50000)
OTHER_COMPRESSIONS = {
    **{6: "JPEG of the old style", 32809: "ThunderScan", 32909: "PixarLog", 34661: "JBIG", 34676: "SGI Log"},
    **{33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC"},
    **{34892: "lossy JPEG", 34933: "PNG", 34934: "JPEG XR", 22610: "JPEG XR", 50001: "WebP"},
    **{50002: "JPEG XL", 52546: "JPEG XL"},
}
WHITE_IS_0, PALETTE, YCBCR = 0, 3, 6
TIFF_COLOURS = (WHITE_IS_0, 1, 2, PALETTE, 5, YCBCR)  # ..., black is 0, RGB, palette, CMYK
OTHER_COLOURS: dict[int | None, str] = {
    4: "a mask",
    8: "Lab",
    9: "Lab",
    10: "Lab",
    32803: "a sensor's",
    32844: "LogLuv",
    34892: "a sensor's",
}


class Tiff(NamedTuple):
    """What the first directory says: lists of values, and of each tag the first value."""

    lists: dict[int, np.ndarray]
    first: dict[int, int]

    @property
    def compression(self) -> int:
        return self.first.get(TiffTag.COMPRESSION, NO_COMPRESSION)

    @property
    def colours(self) -> int | None:
        return self.first.get(TiffTag.COLOURS)

    @property
    def bits(self) -> int:
        return self.first.get(TiffTag.BITS, 1)

    @property
    def samples(self) -> int:
        return self.first.get(TiffTag.SAMPLES, 1)

    @property
    def is_planar(self) -> bool:
        return self.first.get(TiffTag.PLANES, 1) == 2


def read_tiff(data: np.ndarray) -> Tiff | None:
    """The tags of TiffTag; None if one is there twice, is cut or of an unusual type. Raises: KindError for DNG."""
    order = "<" if data[0] == ord("I") else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    lists: dict[int, np.ndarray] = {}
    for position in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, position)
        if tag not in TIFF_TAGS:
            continue
        if tag == TiffTag.DNG_VERSION:
            raise KindError("a camera's raw file (DNG)")
        if tag in lists or kind not in TIFF_TYPES or count == 0 or (count > 1 and tag not in TIFF_LISTS):
            return None
        where, length = position + 8, count * TIFF_TYPES[kind]
        if length > 4:
            (where,) = struct.unpack_from(order + "I", data, where)
        if where + length > data.size:
            return None
        lists[tag] = data[where : where + length].view(f"{order}u{TIFF_TYPES[kind]}")
    return Tiff(lists, {tag: int(values[0]) for tag, values in lists.items()})


def tiff_size(data: np.ndarray) -> Size | None:
    """Of the first page, or of its tiles if they are too large. Raises: KindError for what Pillow gets wrong."""
    if data[8:10].tobytes() == b"CR":
        raise KindError("a camera's raw file (CR2)")
    tiff = read_tiff(data)
    if tiff is None or not {TiffTag.WIDTH, TiffTag.HEIGHT} <= tiff.first.keys():
        return None
    if tiff.first.get(TiffTag.SUBFILE, 0) & 1:
        raise KindError("a TIFF that begins with a small copy of its picture, as a camera's raw file does")
    refuse_tiff_kind(tiff)
    tile = tiff.first.get(TiffTag.TILE_WIDTH, 0), tiff.first.get(TiffTag.TILE_HEIGHT, 0)
    return tile if math.prod(tile) > MAX_PIXELS else (tiff.first[TiffTag.WIDTH], tiff.first[TiffTag.HEIGHT])


def refuse_tiff_kind(tiff: Tiff) -> None:
    compression, colours = tiff.compression, tiff.colours
    if compression not in TIFF_COMPRESSIONS:
        raise KindError(f"a TIFF with compression {compression}{bracketed(OTHER_COMPRESSIONS.get(compression))}")
    if tiff.first.get(TiffTag.SAMPLE_FORMAT, 1) != 1:
        raise KindError("a TIFF of signed or floating-point samples")
    if colours not in TIFF_COLOURS:
        raise KindError(f"a TIFF of colour space {colours}{bracketed(OTHER_COLOURS.get(colours))}")
    if tiff.bits not in (1, 2, 4, 8, 16):
        raise KindError(f"a TIFF of {tiff.bits} bits a sample")
    if colours == PALETTE and tiff.lists.get(TiffTag.COLOUR_MAP, np.zeros(1)).max() < 256:
        raise KindError("a TIFF whose palette has levels of 8 bits")  # which Pillow takes for 16: all black
    if colours == YCBCR and not is_checked_ycbcr(tiff):
        raise KindError(f"a YCbCr TIFF with compression {compression}, subsampled or in planes")


def is_checked_ycbcr(tiff: Tiff) -> bool:
    """Tell whether damage is noticed: Pillow lets libtiff convert, which then passes over its own errors."""
    if tiff.is_planar:
        return False
    is_subsampled = tiff.lists.get(TiffTag.SUBSAMPLING, np.array([2, 2])).tolist() != [1, 1]
    return tiff.compression == JPEG_COMPRESSION or (
        tiff.compression in (NO_COMPRESSION, *DEFLATE) and not is_subsampled
    )


def bracketed(name: str | None) -> str:
    return f" ({name})" if name else ""


def tiff_pixels(data: np.ndarray) -> Image | None:
    tiff = read_tiff(data)
    if tiff is None or not is_whole_tiff(data, tiff):
        return None
    with warnings.catch_warnings(action="ignore"):
        try:
            picture = open_tiff(data)
        except (SyntaxError, LookupError):
            raise KindError(f"a TIFF of {tiff.samples} x {tiff.bits} bits in colour space {tiff.colours}") from None
        orientation: int = picture.getexif().get(ORIENTATION_TAG, 1)
        pixels = pillow_pixels(picture)
    if tiff.bits == 16 and tiff.colours == WHITE_IS_0:
        pixels = 255 - pixels  # Pillow does so for the other depths
    # Pillow has turned it upright; back, as the other kinds are
    return turn_upright(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def open_tiff(data: np.ndarray) -> "PIL.Image.Image":
    from PIL import TiffImagePlugin

    before, TiffImagePlugin.READ_LIBTIFF = TiffImagePlugin.READ_LIBTIFF, True
    try:  # Pillow's own reading of uncompressed files mixes up 16-bit planes, and misses strips that are not there
        return TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    finally:
        TiffImagePlugin.READ_LIBTIFF = before


def is_whole_tiff(data: np.ndarray, tiff: Tiff) -> bool:
    """Tell whether every strip or tile is there, and those with a checksum or an end mark have the right one."""
    width, height = tiff.first[TiffTag.WIDTH], tiff.first[TiffTag.HEIGHT]
    is_tiled = TiffTag.TILE_WIDTH in tiff.first
    if is_tiled:
        columns, rows = tiff.first[TiffTag.TILE_WIDTH], tiff.first[TiffTag.TILE_HEIGHT]
        places, lengths = tiff.lists[TiffTag.TILE_OFFSETS], tiff.lists[TiffTag.TILE_BYTES]
    else:
        columns, rows = width, min(tiff.first.get(TiffTag.STRIP_ROWS, height), height)
        places, lengths = tiff.lists[TiffTag.STRIP_OFFSETS], tiff.lists[TiffTag.STRIP_BYTES]
    planes, samples = (tiff.samples, 1) if tiff.is_planar else (1, tiff.samples)
    row_bytes, down = math.ceil(columns * samples * tiff.bits / 8), math.ceil(height / rows)
    count = math.ceil(width / columns) * down * planes
    if min(len(places), len(lengths)) < count:
        return False
    for index, (place, length) in enumerate(zip(places[:count].tolist(), lengths[:count].tolist(), strict=True)):
        if tiff.compression == NO_COMPRESSION:  # some writers state another length, which libtiff does not mind
            length = row_bytes * (rows if is_tiled else min(rows, height - index % down * rows))
        segment = data[place : place + length]
        if segment.size < length or not is_whole_segment(segment, tiff.compression, row_bytes * rows):
            return False
    return True


def is_whole_segment(segment: np.ndarray, compression: int, size: int) -> bool:
    """Tell whether a strip or tile of `size` bytes, at most, is compressed to its end: libtiff does not look at it."""
    if compression == JPEG_COMPRESSION:
        return b"\xff\xd9" in segment.tobytes()
    if compression not in DEFLATE:
        return True
    decoder, length = zlib.decompressobj(), 0
    for start in range(0, segment.size, 65536):
        length += len(decoder.decompress(segment[start : start + 65536]))
        if decoder.eof or length > size:
            return length <= size
    return False
