# SPDX-License-Identifier: Apache-2.0
"""One image: decode, train and evaluation transforms, normalise. Images are RGB uint8 [H, W, 3] numpy arrays."""

import enum
import io
import math
import os
import re
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

if TYPE_CHECKING:  # they are loaded when the first file needs them
    import PIL.Image
    import pillow_heif

__all__ = [
    "IMAGE_SUFFIXES",
    "decode_image",
    "denormalize",
    "describe_left_out",
    "eval_transform",
    "image_kind",
    "is_left_out",
    "kind_of_name",
    "load_image",
    "normalize",
    "random_erasing",
    "random_resized_crop",
    "read_orientation",
    "read_size",
    "train_transform",
    "trivial_augment_wide",
    "turn_upright",
]

Image = np.ndarray
Size = tuple[int, int]  # width, height
Answer = TypeVar("Answer")

IMAGE_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg"),
    *(".png", ".tif", ".tiff", ".webp"),
)
CROP_SHARE = 0.875  # evaluation crops the central 7/8 of the short side: 224 of 256
MAX_PIXELS = 178_956_970  # where Pillow raises DecompressionBombError: 0.5 GB as RGB, up to 3.5 GB while decoding
MAX_ASPECT_RATIO = 1000  # resized to the evaluation size, anything longer would need gigabytes

MADE_BY_SYSTEMS = ("desktop.ini", "ehthumbs.db", "thumbs.db")  # beside photos, without anybody's doing
# What a file that is no image most often is, by its suffix, and what to do with it.
LEFT_OUT_ADVICE = {
    **dict.fromkeys(
        (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"),
        "camera raw: export as JPEG",
    ),
    **dict.fromkeys((".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".wmv"), "video"),
    **dict.fromkeys((".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"), "archive: unpack it"),
    **dict.fromkeys((".crdownload", ".download", ".part", ".partial"), "unfinished download: get it again"),
    **dict.fromkeys(
        (
            *(".ai", ".dcm", ".eps", ".exr", ".hdr", ".ico", ".j2k", ".jp2", ".jxl", ".pbm", ".pcx", ".pdf"),
            *(".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga", ".xcf"),
        ),
        "not read here: save as PNG or JPEG",
    ),
    "": "images need one, such as .jpg",
}
LEFT_OUT_KINDS = 6  # that a line names


def is_left_out(name: str) -> bool:
    """Whether a file is passed over although somebody may take it for an image: visible, and without their suffix."""
    lower = name.lower()
    return not lower.endswith(IMAGE_SUFFIXES) and not name.startswith(".") and lower not in MADE_BY_SYSTEMS


def kind_of_name(name: str) -> str:
    """What a file that is left out is counted as: its suffix in small letters, with that of an image before it."""
    stem, suffix = os.path.splitext(name.lower())
    before = os.path.splitext(stem)[1]
    suffix = before + suffix if before in IMAGE_SUFFIXES else suffix
    return suffix if re.fullmatch(r"[.\w~-]{2,20}", suffix) else ""  # a sentence with a dot in it has none


def describe_left_out(left_out: Counter[str]) -> str:
    """How many files were left out, by suffix, with what to do: "8 .cr2 (camera raw: export as JPEG), 2 .txt".

    left_out: counts by kind_of_name(), or by words for what is no suffix.
    """
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    parts = []
    for kind, count in kinds[:LEFT_OUT_KINDS]:
        advice = LEFT_OUT_ADVICE.get(kind and "." + kind.rpartition(".")[2])
        parts.append(f"{count:,} {kind or 'without a suffix'}" + (f" ({advice})" if advice else ""))
    if len(kinds) > LEFT_OUT_KINDS:
        rest = sum(count for _, count in kinds[LEFT_OUT_KINDS:])
        parts.append(f"{rest:,} of {len(kinds) - LEFT_OUT_KINDS} other kinds")
    return ", ".join(parts)


def load_image(path: str | Path, apply_orientation: bool = False) -> Image:
    """Decode an image file to RGB uint8 [H, W, 3]; decode_image() says which kinds.

    Raises: FileNotFoundError; ValueError naming the file as decode_image() does, or for a pipe or device.
    """
    return decode_image(read_bytes(path), path, apply_orientation)


def read_size(path: str | Path, apply_orientation: bool = False) -> tuple[int, int]:
    """The height and width that load_image() would give, by the header; nothing is decoded. Raises: as it does."""
    data = read_bytes(path)
    width, height = check_claims(data, path)
    if apply_orientation and read_orientation(data) >= 5:
        return width, height
    return height, width


def read_bytes(path: str | Path) -> np.ndarray:
    """The bytes of a file, uint8 [N]. Raises: FileNotFoundError; ValueError for a pipe or device."""
    if not os.path.isfile(path) and os.path.exists(path):
        raise ValueError(f"{path}: not a regular file; remove it")  # reading a pipe would wait for ever
    return np.fromfile(path, dtype=np.uint8)


def decode_image(data: np.ndarray, name: str | Path, apply_orientation: bool = False) -> Image:
    """Decode the bytes of an image file, uint8 [N], to RGB uint8 [H, W, 3]; errors call it `name`.

    The kinds of IMAGE_KINDS, told by content whatever the name, and the first picture if there are several; no other
    decoder of OpenCV or Pillow is ever called. The pixels are those of Pillow's convert("RGB") for 8-bit RGB and grey;
    data/README.md has a table of the other kinds. The camera orientation is ignored, unless `apply_orientation`.
    Nothing larger than MAX_PIXELS is decoded.
    Raises: ValueError if it is empty, truncated, no image, too large, too long and thin, or of a kind that would be
    decoded to a wrong picture.
    """
    width, height = check_claims(data, name)
    image = ask_reader(IMAGE_KINDS[image_kind(data)].pixels, data, name)
    if image is None or image.shape != (height, width, 3):
        raise unreadable(data, name)
    if max(image.shape[:2]) > MAX_ASPECT_RATIO * min(image.shape[:2]):
        raise ValueError(
            f"{name}: {image.shape[1]} x {image.shape[0]} pixels; one side is over {MAX_ASPECT_RATIO} times the other"
        )
    return turn_upright(image, read_orientation(data)) if apply_orientation else image


def unreadable(data: np.ndarray, name: str | Path) -> ValueError:
    return ValueError(f"{name}: not a readable image ({data.size} bytes); replace or remove the file")


class KindError(ValueError):
    """The file may be sound, but is of a kind that is not read; the message names the kind."""


def ask_reader(reader: Callable[[np.ndarray], Answer], data: np.ndarray, name: str | Path) -> Answer | None:
    """What one of the readers below says about a file; None if it is damaged. Raises: ValueError for its kind."""
    try:
        return reader(data)
    except KindError as error:
        raise ValueError(f"{name}: {error}; save it as PNG with 8 bits a channel") from None
    except ImportError:
        package = {"HEIC": "pillow-heif"}.get(image_kind(data), "pillow")
        raise ValueError(
            f"{name}: reading {image_kind(data)} needs the package {package}; pip install -r requirements.txt"
        ) from None
    except Exception:  # cv2.error, struct.error, and of Pillow almost anything
        return None


# The camera orientation. HEIC alone has it as a part of the picture, which its decoder carries out.


def read_orientation(data: np.ndarray) -> int:
    """The orientation, 1 to 8 as in EXIF tag 274, in which an image file stores its pixels, as Pillow finds it.

    1 is upright, and is given where nothing sensible is stored. Of a HEIC, libheif has turned the pixels already and
    the tag says nothing: 1.
    """
    kind = image_kind(data)
    if kind not in ("JPEG", "PNG", "WebP", "TIFF", "AVIF"):
        return 1
    try:
        check_claims(data, "")  # Pillow makes the canvas of a WebP when it opens it
        if kind == "PNG":
            data = without_chunks(data, PNG_ANIMATION | {b"IDAT"})
        orientation = stored_orientation(kind, data)
    except Exception:  # Pillow raises almost anything for odd metadata
        return 1
    return orientation if orientation in range(1, 9) else 1


def stored_orientation(kind: str, data: np.ndarray) -> int:
    from PIL import Image

    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=[kind.upper()]) as picture:
        return Image.Image.getexif(picture).get(ORIENTATION_TAG, 1)  # a PNG's own method would decode it


def turn_upright(image: Image, orientation: int) -> Image:
    """Flip and turn what is stored in one of the eight orientations, exactly as Pillow's ImageOps.exif_transpose."""
    if orientation in (5, 6, 7, 8):
        image = cv2.transpose(image)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else cv2.flip(image, flip)


ORIENTATION_TAG = 274


# What a file says of itself is checked before it is decoded: a few bytes can ask for gigabytes. OpenCV's own limit is
# six times as high, can be set only before cv2 is first imported, and comes after its decoder of animated WebP has
# already taken the memory. Below there are two readers for each kind. One finds the size where the decoder finds it:
# at fixed places, by the marker rules of libjpeg, for TIFF refusing every spelling of a size that libtiff might read
# in another way. The other decodes what has passed. Both give None for a damaged file.


def check_claims(data: np.ndarray, name: str | Path) -> tuple[int, int]:
    """The width and height that a file claims.

    Raises: ValueError, before anything is decoded, if it is of no accepted kind or claims too many pixels.
    """
    kind = image_kind(data)
    if kind is None:
        refuse_foreign(data, name)
    size = ask_reader(IMAGE_KINDS[kind].size, data, name)
    if size is None:
        raise unreadable(data, name)
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{name}: claims {size[0]} x {size[1]} pixels, above the limit of {MAX_PIXELS:,}; make the image smaller, "
            "or remove the file"
        )
    return size


def opencv_pixels(data: np.ndarray, flags: int = cv2.IMREAD_COLOR_RGB) -> Image | None:
    # imdecode gives None for a truncated file, where imread would fill the rest of a JPEG with grey
    return cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)


def pillow_pixels(picture: "PIL.Image.Image") -> Image:
    """Decode a picture that Pillow has opened: its convert("RGB"), but of 16-bit grey the high byte of each level."""
    if picture.mode.startswith("I;16"):
        return cv2.cvtColor((np.asarray(picture) >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    if picture.mode == "La":  # grey with premultiplied alpha, from which Pillow has no way to RGB
        picture = picture.convert("LA")
    if picture.mode != "RGB":  # convert() would copy
        picture = picture.convert("RGB")
    return np.array(picture)


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
        raise KindError(f"a {'lossless ' if frame.marker == JPEG_LOSSLESS else ''}JPEG of {frame.bits} bits a channel")
    if frame.channels not in (1, 3, 4):
        raise KindError(f"a JPEG of {frame.channels} channels")
    return frame.width, frame.height


def jpeg_pixels(data: np.ndarray) -> Image | None:
    image = opencv_pixels(data)
    if image is None and read_jpeg_frame(data).marker == JPEG_LOSSLESS:  # of which libjpeg makes no colour from grey
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
        raise KindError(f"a BMP with a header of {header_size} bytes")
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


# TIFF, which Pillow decodes: OpenCV gives a black picture, or black rows, where libtiff reports an error.


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
OTHER_COLOURS = {4: "a mask", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "a sensor's", 32844: "LogLuv", 34892: "a sensor's"}


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
    if not is_whole_tiff(data, tiff):
        return None
    with warnings.catch_warnings(action="ignore"):
        try:
            picture = open_tiff(data)
        except (SyntaxError, LookupError):
            raise KindError(f"a TIFF of {tiff.samples} x {tiff.bits} bits in colour space {tiff.colours}") from None
        orientation = picture.getexif().get(ORIENTATION_TAG)
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


# The kinds


class ImageKind(NamedTuple):
    """How a kind of file begins, and its two readers."""

    magic: re.Pattern[bytes]
    size: Callable[[np.ndarray], Size | None]
    pixels: Callable[[np.ndarray], Image | None]


def magic(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


# HEIC and AVIF are one container: its first brand says which, or where that is a common one, the brands after it.
IMAGE_KINDS = {
    "JPEG": ImageKind(magic(rb"\xff\xd8\xff"), jpeg_size, jpeg_pixels),
    "PNG": ImageKind(magic(rb"\x89PNG\r\n\x1a\n"), png_size, png_pixels),
    "GIF": ImageKind(magic(rb"GIF8[79]a"), gif_size, opencv_pixels),
    "BMP": ImageKind(magic(rb"BM"), bmp_size, bmp_pixels),
    "TIFF": ImageKind(magic(rb"II\*\0|MM\0\*"), tiff_size, tiff_pixels),
    "WebP": ImageKind(magic(rb"RIFF.{4}WEBP"), webp_size, opencv_pixels),
    "AVIF": ImageKind(magic(rb".{4}ftyp(avi[fs]|(mif1|msf1)(?=(.{4}){1,16}avi[fs]))"), avif_size, avif_pixels),
    "HEIC": ImageKind(magic(rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)"), heic_size, heic_pixels),
}
FOREIGN_KINDS = {
    "a JPEG XL": magic(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "a JPEG 2000": magic(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  "),
    "a JPEG XR": magic(rb"II\xbc"),
    "a BigTIFF": magic(rb"II\+\0|MM\0\+"),
    "a camera's raw file": magic(rb"IIRO|IIRS|MMOR|IIU\0|FUJIFILM|.{4}ftypcrx|\0MRM|FOVb"),
    "a video": magic(rb".{4}ftyp.{4}|\x1a\x45\xdf\xa3|RIFF.{4}AVI "),
    "a Photoshop file": magic(rb"8BPS"),
    "a GIMP file": magic(rb"gimp xcf"),
    "an SVG drawing": magic(rb"(\xef\xbb\xbf)?\s*(<\?xml.{0,999}?)?<svg"),
    "a PDF or PostScript file": magic(rb"%PDF|%!PS|\xc5\xd0\xd3\xc6"),
    "a PPM, PGM, PBM or PFM": magic(rb"P[1-7Ff]\s"),
    "an icon": magic(rb"\0\0[\x01\x02]\0[^\0]\0|icns"),
    "a TGA": magic(rb".\0[\x02\x03\x0a\x0b]\0{5}|.\x01[\x01\x09]\0\0.{2}[\x10\x18\x20]"),
    "a PCX": magic(rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08]"),
    "an SGI image": magic(rb"\x01\xda"),
    "a Sun raster": magic(rb"\x59\xa6\x6a\x95"),
    "a FITS": magic(rb"SIMPLE  ="),
    "an XPM or XBM": magic(rb"/\* XPM|#define "),
    "an OpenEXR": magic(rb"v/1\x01"),
    "a Radiance HDR": magic(rb"#\?R"),
    "a DDS texture": magic(rb"DDS "),
    "a QOI": magic(rb"qoif"),
    "a BMP without its file header": magic(rb"\x28\0{3}.{8}\x01\0"),
}
NO_IMAGES = {
    "a web page": magic(rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype\s+html|html)"),
    "a pointer of Git LFS": magic(rb"version https://git-lfs"),
    "an archive": magic(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!"),
}


def image_kind(data: np.ndarray) -> str | None:
    """What the first bytes of a file, uint8 [N], say it is: a key of IMAGE_KINDS, or None."""
    return next((kind for kind, reader in IMAGE_KINDS.items() if reader.magic.match(data)), None)


def refuse_foreign(data: np.ndarray, name: str | Path) -> NoReturn:
    """Raises: ValueError that names what the file is instead of an image of IMAGE_KINDS, where its start tells."""
    for kind, pattern in FOREIGN_KINDS.items():
        if pattern.match(data):
            raise ValueError(f"{name}: {kind}; save it as PNG with 8 bits a channel")
    for kind, pattern in NO_IMAGES.items():
        if pattern.match(data):
            raise ValueError(f"{name}: {kind}, not an image; get the image itself, or remove the file")
    raise unreadable(data, name)


def resize(image: Image, height: int, width: int) -> Image:
    """Antialiased bilinear resize of uint8 [H, W, 3], within 2 grey levels of Pillow's."""
    if image.shape[:2] == (height, width):
        return image
    # The batch axis goes first: torch then sees a channels_last tensor, its fast path, and gives one back.
    batch = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def eval_transform(image: Image, image_size: int) -> Image:
    """Short side to image_size / 0.875 (256 for 224), then the central square: uint8 [S, S, 3].

    What the published accuracies were measured with; within 2 grey levels of torchvision's on Pillow images.
    """
    height, width = image.shape[:2]
    short, target = min(height, width), round(image_size / CROP_SHARE)
    image = resize(image, target * height // short, target * width // short)
    top, left = (round((side - image_size) / 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + image_size, left : left + image_size])


def train_transform(
    image: Image,
    generator: Generator,
    *,
    image_size: int,
    crop_scale: Sequence[float] | None,
    flip_probability: float,
    trivial_augment: bool,
    erasing_probability: float,
    erasing_value: Sequence[float],
) -> Image:
    """Crop, flip, augment, erase, in torchvision's order: uint8 [S, S, 3]. All randomness is the generator's.

    `crop_scale`: least and largest share of the area a random crop covers; None takes the evaluation crop instead.
    `erasing_value`: the RGB levels, 0..255, that random erasing writes (the mean: 0 after normalising).
    """
    if crop_scale is None:
        image = eval_transform(image, image_size)
    else:
        image = random_resized_crop(image, image_size, crop_scale, generator)
    if generator.random() < flip_probability:
        image = cv2.flip(image, 1)
    if trivial_augment:
        image = trivial_augment_wide(image, generator)
    if generator.random() < erasing_probability:
        image = random_erasing(image, erasing_value, generator)
    return np.ascontiguousarray(image)


def random_resized_crop(image: Image, image_size: int, scale: Sequence[float], generator: Generator) -> Image:
    """Crop a random share of the area with a random shape and resize it to [S, S, 3].

    The distribution of torchvision's RandomResizedCrop: area share uniform in `scale`, aspect ratio log-uniform in
    3/4..4/3, ten tries, then the largest central crop whose aspect ratio is allowed.
    """
    height, width = image.shape[:2]
    ratios = 3 / 4, 4 / 3
    for _ in range(10):
        area = height * width * generator.uniform(*scale)
        ratio = math.exp(generator.uniform(math.log(ratios[0]), math.log(ratios[1])))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = generator.integers(height - crop_height + 1)
            left = generator.integers(width - crop_width + 1)
            break
    else:
        crop_width = min(width, round(height * ratios[1]))
        crop_height = min(height, round(width / ratios[0]))
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return resize(image[top : top + crop_height, left : left + crop_width], image_size, image_size)


def random_erasing(image: Image, value: Sequence[float], generator: Generator) -> Image:
    """Fill one random rectangle with `value` (RGB levels), in a copy.

    The distribution of torchvision's RandomErasing: 2 % to 33 % of the area, aspect ratio log-uniform in 0.3..3.3,
    ten tries, then the image as it is.
    """
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * generator.uniform(0.02, 0.33)
        ratio = math.exp(generator.uniform(math.log(0.3), math.log(3.3)))
        box_height, box_width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if box_height < height and box_width < width:
            top = generator.integers(height - box_height + 1)
            left = generator.integers(width - box_width + 1)
            image = image.copy()
            image[top : top + box_height, left : left + box_width] = np.round(value)
            return image
    return image


# TrivialAugmentWide (arXiv:2103.10158) with torchvision's operations and magnitudes, on OpenCV. Each operation takes
# the image and a magnitude and follows Pillow's arithmetic: geometry to the pixel, colour to the grey level or,
# where blend() is called, within one.


def grey_levels(image: Image) -> Image:
    """RGB -> luminance uint8 [H, W] with the ITU-R 601 weights in 1/65536 that Pillow's convert("L") uses."""
    # Exact in float32: 24 bits hold every sum of levels times weights.
    grey = cv2.transform(image.astype(np.float32), GREY_WEIGHTS)
    grey += np.float32(0.5)
    return grey.astype(np.uint8)


GREY_WEIGHTS = np.array([[19595, 38470, 7471]], dtype=np.float32) / 65536


def blend(start: Image, end: Image, factor: float) -> Image:
    """start + factor * (end - start), clipped and cut to whole levels as Pillow does; factors above 1 extrapolate."""
    # OpenCV rounds where Pillow cuts: just under half a level less makes the two agree
    return cv2.addWeighted(end, factor, start, 1 - factor, -0.4999)


def look_up_blend(start: float, factor: float) -> np.ndarray:
    """The table of blend() for one constant start level, uint8 [256]."""
    levels = np.arange(256, dtype=np.float32)
    return np.clip(np.float32(start) + np.float32(factor) * (levels - np.float32(start)), 0, 255).astype(np.uint8)


def warp(image: Image, matrix: Sequence[float]) -> Image:
    """Pixel (x, y) takes the input at (a x + b y + c, d x + e y + f), nearest neighbour, black outside.

    `matrix`: a, b, c, d, e, f about pixel centres. In the 1/65536 steps Pillow computes in, so the pixels are equal.
    """
    height, width = image.shape[:2]
    columns, rows = np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32)[:, None]
    source = np.empty((height, width, 2), dtype=np.int16)
    for axis, (along_x, along_y, offset) in enumerate((matrix[:3], matrix[3:])):
        start = math.floor((offset + 0.5 * along_x + 0.5 * along_y) * 65536 + 0.5)
        step_x, step_y = (math.floor(step * 65536 + 0.5) for step in (along_x, along_y))
        source[..., axis] = (columns * step_x + start + rows * step_y) >> 16
    return cv2.remap(image, source, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)


def shear_x(image: Image, magnitude: float) -> Image:
    """Move each row by magnitude * its distance from the top; the top left corner stays."""
    return warp(image, (1, magnitude, 0, 0, 1, 0))


def shear_y(image: Image, magnitude: float) -> Image:
    """Move each column by magnitude * its distance from the left; the top left corner stays."""
    return warp(image, (1, 0, 0, magnitude, 1, 0))


def translate_x(image: Image, magnitude: float) -> Image:
    """Move to the right by whole pixels; black comes in."""
    return warp(image, (1, 0, -int(magnitude), 0, 1, 0))


def translate_y(image: Image, magnitude: float) -> Image:
    """Move down by whole pixels; black comes in."""
    return warp(image, (1, 0, 0, 0, 1, -int(magnitude)))


def rotate(image: Image, magnitude: float) -> Image:
    """Turn counter-clockwise about the centre, by degrees."""
    height, width = image.shape[:2]
    cosine, sine = (round(turn(math.radians(-magnitude)), 15) for turn in (math.cos, math.sin))
    centre_x, centre_y = width / 2, height / 2
    return warp(
        image,
        (
            *(cosine, sine, centre_x - cosine * centre_x - sine * centre_y),
            *(-sine, cosine, centre_y + sine * centre_x - cosine * centre_y),
        ),
    )


def brightness(image: Image, magnitude: float) -> Image:
    """Blend from black."""
    return cv2.LUT(image, look_up_blend(0, 1 + magnitude))


def color(image: Image, magnitude: float) -> Image:
    """Blend from grey."""
    return blend(cv2.cvtColor(grey_levels(image), cv2.COLOR_GRAY2RGB), image, 1 + magnitude)


def contrast(image: Image, magnitude: float) -> Image:
    """Blend from the mean grey level."""
    return cv2.LUT(image, look_up_blend(int(cv2.mean(grey_levels(image))[0] + 0.5), 1 + magnitude))


def sharpness(image: Image, magnitude: float) -> Image:
    """Blend from a smoothed copy, whose outermost pixels stay as they are."""
    smooth = image.copy()
    if min(image.shape[:2]) > 2:
        smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, SMOOTH_KERNEL)[1:-1, 1:-1]
    return blend(smooth, image, 1 + magnitude)


SMOOTH_KERNEL = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13


def posterize(image: Image, magnitude: float) -> Image:
    """Keep the highest bits of each level; the magnitude is their number."""
    return image & np.uint8(256 - (1 << 8 - round(magnitude)))


def solarize(image: Image, magnitude: float) -> Image:
    """Invert the levels from the magnitude up."""
    levels = np.arange(256)
    return cv2.LUT(image, np.where(levels < magnitude, levels, 255 - levels).astype(np.uint8))


def histograms(image: Image) -> list[np.ndarray]:
    """Count the pixels of each level, for each channel: three int64 [256]."""
    return [cv2.calcHist([image], [c], None, [256], [0, 256]).ravel().astype(np.int64) for c in range(3)]


def autocontrast(image: Image, magnitude: float) -> Image:
    """Stretch each channel so that its darkest level becomes 0 and its brightest 255."""
    tables = np.tile(np.arange(256, dtype=np.uint8)[:, None], 3)
    for channel, counts in enumerate(histograms(image)):
        low, *_, high = np.flatnonzero(counts)[[0, -1]]
        if high > low:
            scale = 255.0 / (high - low)
            tables[:, channel] = np.clip(np.arange(256) * scale - low * scale, 0, 255)
    return cv2.LUT(image, tables[None])


def equalize(image: Image, magnitude: float) -> Image:
    """Spread the levels of each channel so that its histogram becomes flat."""
    tables = np.tile(np.arange(256, dtype=np.uint8)[:, None], 3)
    for channel, counts in enumerate(histograms(image)):
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step > 0:
            tables[:, channel] = np.minimum((step // 2 + counts.cumsum() - counts) // step, 255)
    return cv2.LUT(image, tables[None])


def identity(image: Image, magnitude: float) -> Image:
    """Give the image back."""
    return image


BINS = 31
# operation -> (magnitude of its first bin, of its last, whether its sign is random), as torchvision tables them
TRIVIAL_AUGMENT_WIDE: dict[Callable[[Image, float], Image], tuple[float, float, bool]] = {
    identity: (0, 0, False),
    shear_x: (0, 0.99, True),
    shear_y: (0, 0.99, True),
    translate_x: (0, 32, True),
    translate_y: (0, 32, True),
    rotate: (0, 135, True),
    brightness: (0, 0.99, True),
    color: (0, 0.99, True),
    contrast: (0, 0.99, True),
    sharpness: (0, 0.99, True),
    posterize: (8, 2, False),
    solarize: (255, 0, False),
    autocontrast: (0, 0, False),
    equalize: (0, 0, False),
}
OPERATIONS = tuple(TRIVIAL_AUGMENT_WIDE.items())
# torchvision's float32 steps: 16 pixels come out as 15.99..., which translate_x cuts to 15
MAGNITUDES = [torch.linspace(first, last, BINS).tolist() for _, (first, last, _) in OPERATIONS]


def trivial_augment_wide(image: Image, generator: Generator) -> Image:
    """Apply one operation, its magnitude and its sign each drawn uniformly (arXiv:2103.10158, wide search space)."""
    index = generator.integers(len(OPERATIONS))
    operation, (_, _, signed) = OPERATIONS[index]
    magnitude = MAGNITUDES[index][generator.integers(BINS)]
    return operation(image, -magnitude if signed and generator.random() < 0.5 else magnitude)


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 levels [N, 3, H, W] -> float32 (level / 255 - mean) / std, in the same memory format and on the device.

    mean, std: float32 [3] on the device of `images`, as shares of white (0..1).
    """
    scale, shift = 1 / (255 * std), mean / std
    levels = images.permute(0, 2, 3, 1)
    if images.is_cuda or not levels.is_contiguous():
        return images.float().mul_(scale[:, None, None]).sub_(shift[:, None, None])
    # In numpy, and image by image: the threads of torch would wait for their next task by running, on the cores of the
    # loader workers. Several rows of pixels at once: a loop over 3 channels takes four times as long.
    count, height, width, channels = levels.shape
    joined = math.gcd(height, 8) * width
    rows = count, height * width // joined, joined * channels
    row_scale, row_shift = (each.repeat(joined).numpy() for each in (scale, shift))
    # Not torch.empty(): glibc does not reuse a freed block for an aligned one of the same size, and the process grows.
    normalized = np.empty(levels.shape, np.float32)
    for source, target in zip(levels.numpy().reshape(rows), normalized.reshape(rows), strict=True):
        target[...] = source
        target *= row_scale
        target -= row_shift
    return torch.from_numpy(normalized).permute(0, 3, 1, 2)


def denormalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The inverse of normalize(): float [N, 3, H, W] -> uint8 levels, rounded and clipped to 0..255."""
    return ((images * std[:, None, None] + mean[:, None, None]) * 255).round().clamp(0, 255).to(torch.uint8)
