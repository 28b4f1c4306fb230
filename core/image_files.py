# SPDX-License-Identifier: Apache-2.0
"""From an image file to RGB uint8 [H, W, 3], or to one line that says why not."""

import io
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import numpy as np

from core.image_formats import (
    PNG_ANIMATION,
    avif_pixels,
    avif_size,
    bmp_pixels,
    bmp_size,
    gif_size,
    heic_pixels,
    heic_size,
    jpeg_pixels,
    jpeg_size,
    png_pixels,
    png_size,
    webp_size,
    without_chunks,
)
from core.pixels import MAX_PIXELS, ORIENTATION_TAG, Image, KindError, Size, opencv_pixels, turn_upright
from core.plurals import counted
from core.tiff_files import tiff_pixels, tiff_size

Answer = TypeVar("Answer")
MAX_ASPECT_RATIO = 1000  # resized to the evaluation size, anything longer would need gigabytes


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
    image = ask_reader(IMAGE_KINDS[known_kind(data, name)].pixels, data, name)
    if image is None or image.shape != (height, width, 3):
        raise unreadable(data, name)
    if max(image.shape[:2]) > MAX_ASPECT_RATIO * min(image.shape[:2]):
        raise ValueError(
            f"{name}: {image.shape[1]} x {image.shape[0]} pixels; one side is over {MAX_ASPECT_RATIO} times the other"
        )
    return turn_upright(image, read_orientation(data)) if apply_orientation else image


def unreadable(data: np.ndarray, name: str | Path) -> ValueError:
    return ValueError(f"{name}: not a readable image ({counted(data.size, 'byte')}); replace or remove the file")


def ask_reader(reader: Callable[[np.ndarray], Answer], data: np.ndarray, name: str | Path) -> Answer | None:
    """What one of the readers of a kind says about a file; None if it is damaged. Raises: ValueError for its kind."""
    try:
        return reader(data)
    except KindError as error:
        raise ValueError(f"{name}: {error}; save it as PNG with 8 bits a channel") from None
    except ImportError:
        package = "pillow-heif" if image_kind(data) == "HEIC" else "pillow"
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
        orientation: int = Image.Image.getexif(picture).get(ORIENTATION_TAG, 1)  # a PNG's own method would decode it
    return orientation


# What a file says of itself is checked before it is decoded: a few bytes can ask for gigabytes. OpenCV's own limit is
# six times as high, can be set only before cv2 is first imported, and comes after its decoder of animated WebP has
# already taken the memory. For each kind there are two readers, in image_formats.py and tiff_files.py. One finds the
# size where the decoder finds it: at fixed places, by the marker rules of libjpeg, for TIFF refusing every spelling of
# a size that libtiff might read in another way. The other decodes what has passed. Both give None for a damaged file.


def check_claims(data: np.ndarray, name: str | Path) -> tuple[int, int]:
    """The width and height that a file claims.

    Raises: ValueError, before anything is decoded, if it is of no accepted kind or claims too many pixels.
    """
    size = ask_reader(IMAGE_KINDS[known_kind(data, name)].size, data, name)
    if size is None:
        raise unreadable(data, name)
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{name}: claims {size[0]} x {size[1]} pixels, above the limit of {MAX_PIXELS:,}; make the image smaller, "
            "or remove the file"
        )
    return size


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


def known_kind(data: np.ndarray, name: str | Path) -> str:
    """image_kind(). Raises: ValueError where it is None."""
    return image_kind(data) or refuse_foreign(data, name)


def refuse_foreign(data: np.ndarray, name: str | Path) -> NoReturn:
    """Raises: ValueError that names what the file is instead of an image of IMAGE_KINDS, where its start tells."""
    for kind, pattern in FOREIGN_KINDS.items():
        if pattern.match(data):
            raise ValueError(f"{name}: {kind}; save it as PNG with 8 bits a channel")
    for kind, pattern in NO_IMAGES.items():
        if pattern.match(data):
            raise ValueError(f"{name}: {kind}, not an image; get the image itself, or remove the file")
    raise unreadable(data, name)
