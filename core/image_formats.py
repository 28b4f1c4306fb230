# SPDX-License-Identifier: Apache-2.0
"""JPEG, PNG, GIF, BMP, WebP, HEIC and AVIF: their sizes as the decoders find them, and their pixels."""

import io
import math
import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from core.pixels import MAX_PIXELS, Image, KindError, Size, opencv_pixels, pillow_pixels
from core.plurals import counted

if TYPE_CHECKING:  # loaded when the first file needs them
    import PIL.Image
    import pillow_heif

# JPEG

JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)  # libjpeg, too, passes over fill bytes and garbage
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_LOSSLESS, JPEG_LS = 0xC3, 0xF7
JPEG_HIERARCHICAL = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})
JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length


class JpegFrame(NamedTuple):
    """The first frame header; a second one is an error to libjpeg."""

    marker: int
    bits: int
    height: int
    width: int
    channels: int


def read_jpeg_frame(data: np.ndarray) -> JpegFrame | None:
    position = 2
    while match := JPEG_MARKER.search(data, position):
        position = match.end()
        marker = match[1][0]
        if marker in JPEG_FRAMES or marker == JPEG_LS:
            return JpegFrame(marker, *struct.unpack_from(">BHHB", data, position + 2))
        if marker not in JPEG_BARE:
            position += struct.unpack_from(">H", data, position)[0]
    return None


def jpeg_size(data: np.ndarray) -> Size | None:
    """Raises: KindError for what libjpeg does not decode to 8 bits."""
    frame = read_jpeg_frame(data)
    if frame is None:
        return None
    if frame.marker == JPEG_LS:
        raise KindError("a JPEG-LS")
    if frame.marker in JPEG_HIERARCHICAL:
        raise KindError("a hierarchical JPEG")
    if frame.bits != 8:
        raise KindError(
            f"a {'lossless ' if frame.marker == JPEG_LOSSLESS else ''}JPEG of {counted(frame.bits, 'bit')} a channel"
        )
    if frame.channels not in (1, 3, 4):
        raise KindError(f"a JPEG of {frame.channels} channels")
    return frame.width, frame.height


def jpeg_pixels(data: np.ndarray) -> Image | None:
    image = opencv_pixels(data)
    frame = read_jpeg_frame(data) if image is None else None
    if frame is not None and frame.marker == JPEG_LOSSLESS:  # of which libjpeg makes no colour from grey
        grey = opencv_pixels(data, cv2.IMREAD_GRAYSCALE)
        image = grey if grey is None else cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    return image


# PNG

PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})


def png_size(data: np.ndarray) -> Size | None:
    """Of the IHDR chunk; None if a chunk is cut, for whose announced length OpenCV would take up to 2 GB."""
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    *_, (_, _, end) = png_chunks(data)
    return (width, height) if kind == b"IHDR" and end <= data.size else None


def png_pixels(data: np.ndarray) -> Image | None:
    """The still image alone: damage in a later frame makes OpenCV 5.0 write outside its memory."""
    return opencv_pixels(without_chunks(data, PNG_ANIMATION))


def png_chunks(data: np.ndarray) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk, the last being IEND. Raises: struct.error if there is no IEND."""
    kind, end = b"", 8
    while kind != b"IEND":
        start = end
        length, kind = struct.unpack_from(">I4s", data, start)
        end += 12 + length
        yield kind, start, end


def without_chunks(data: np.ndarray, kinds: frozenset[bytes]) -> np.ndarray:
    """A PNG without its chunks of some kinds."""
    chunks = list(png_chunks(data))
    if not any(kind in kinds for kind, _, _ in chunks):
        return data
    return np.concatenate([data[:8], *(data[start:end] for kind, start, end in chunks if kind not in kinds)])


# GIF, BMP and WebP

BMP_BYTE_MASKS = frozenset({0xFF, 0xFF00, 0xFF0000, 0xFF000000})
BMP_HEADERS = (40, 52, 56, 64, 108, 124)
BMP_16_BIT_MASKS = ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F))
BMP_RUNS, BMP_MASKS = (1, 2), 3  # values of the field of the compression; 0 is none


def gif_size(data: np.ndarray) -> Size:
    """Of the logical screen, which every frame must lie in. Raises: KindError for what OpenCV does not read."""
    width, height, flags, background = struct.unpack_from("<HHBB", data, 6)
    if flags & 0x80 and background >= 2 << (flags & 7):
        raise KindError("a GIF whose background is not in its palette")
    return width, height


def bmp_size(data: np.ndarray) -> Size:
    """Of the info header. Raises: KindError for what the decoders do not read, or get wrong."""
    offset, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in (0, *BMP_RUNS, BMP_MASKS):
        raise KindError(f"a BMP with compression {compression}")
    if compression == BMP_MASKS:
        masks = struct.unpack_from("<III", data, 54)
        is_byte_masks = masks == (0xFF0000, 0xFF00, 0xFF) or (header_size >= 56 and BMP_BYTE_MASKS.issuperset(masks))
        if not (is_byte_masks if bits == 32 else bits == 16 and masks in BMP_16_BIT_MASKS):
            raise KindError("a BMP with unusual bit masks")
    if header_size not in BMP_HEADERS:
        raise KindError(f"a BMP with a header of {counted(header_size, 'byte')}")
    (colours,) = struct.unpack_from("<I", data, 46)
    if bits <= 8 and offset < 14 + header_size + 4 * colours:
        raise KindError("a BMP whose pixels begin within its palette")
    return abs(width), abs(height)


def bmp_pixels(data: np.ndarray) -> Image | None:
    (header_size,) = struct.unpack_from("<I", data, 14)
    (bits,) = struct.unpack_from("<H", data, 24 if header_size == 12 else 28)
    if bits != 16:
        return opencv_pixels(data)
    from PIL import BmpImagePlugin  # OpenCV knows 16 bits only in a header of 40 bytes, and pads the levels with zeros

    with BmpImagePlugin.BmpImageFile(io.BytesIO(data)) as picture:
        return pillow_pixels(picture)


def webp_size(data: np.ndarray) -> Size | None:
    """Of the canvas of an extended file, else of the one frame."""
    kind = data[12:16].tobytes()
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return low_width + (high_width << 16) + 1, low_height + (high_height << 16) + 1
    if kind == b"VP8L":
        (sides,) = struct.unpack_from("<I", data, 21)
        return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return (width & 0x3FFF, height & 0x3FFF) if kind == b"VP8 " else None


# HEIC and AVIF, which pillow-heif and Pillow decode: OpenCV 5.0 exchanges blue and red of an AVIF with alpha. Both find
# out that a file is cut. libheif refuses a picture larger than it claims; libavif makes it fit, from 16,384 x 16,384.

CLAIMED_SIZES = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)


def claimed_size(data: np.ndarray) -> Size:
    """The largest of the sizes that the properties of the pictures, their tiles and thumbnails state."""
    sizes = (struct.unpack(">II", match[1]) for match in CLAIMED_SIZES.finditer(data))
    return max(sizes, key=math.prod, default=(0, 0))


def heic_size(data: np.ndarray) -> Size:
    claimed = claimed_size(data)
    return claimed if math.prod(claimed) > MAX_PIXELS else open_heic(data).size


def heic_pixels(data: np.ndarray) -> Image:
    return pillow_pixels(open_heic(data).to_pillow())


def open_heic(data: np.ndarray) -> "pillow_heif.HeifFile":
    """Raises: KindError for a picture that is not HEVC; almost anything for damage."""
    import pillow_heif

    content = data.tobytes()
    start = content.find(b"meta") - 4  # of the box with the properties, which begins with its length
    if 0 < start <= len(content) - int.from_bytes(content[start : start + 4]) and b"hvcC" not in content:
        raise KindError("a HEIF whose picture is not HEVC")
    pillow_heif.options.DECODE_THREADS = 1  # a loader worker has one core
    options = pillow_heif.options
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    file = pillow_heif.open_heif(content)
    if not file.info["primary"]:
        raise ValueError("the primary picture is missing")  # and the first of the others takes its place
    return file


def avif_size(data: np.ndarray) -> Size:
    claimed = claimed_size(data)
    if math.prod(claimed) > MAX_PIXELS:
        return claimed
    with open_avif(data) as picture:
        return picture.size


def avif_pixels(data: np.ndarray) -> Image:
    with open_avif(data) as picture:
        return pillow_pixels(picture)


def open_avif(data: np.ndarray) -> "PIL.Image.Image":
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise ImportError("this Pillow was built without AVIF")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a loader worker has one core
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))
