# SPDX-License-Identifier: Apache-2.0
"""One image: decode, train and evaluation transforms, normalise. Images are RGB uint8 [H, W, 3] numpy arrays."""

import enum
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

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
    "read_size",
    "train_transform",
    "trivial_augment_wide",
]

Image = np.ndarray

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
CROP_SHARE = 0.875  # evaluation crops the central 7/8 of the short side: 224 of 256
MAX_PIXELS = 178_956_970  # where Pillow raises DecompressionBombError: 0.5 GB as RGB, up to 2 GB while decoding
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


def read_size(path: str | Path) -> tuple[int, int]:
    """The height and width that an image file claims, in pixels; nothing is decoded. Raises: as load_image() does."""
    width, height = check_claims(read_bytes(path), path)
    return height, width


def read_bytes(path: str | Path) -> np.ndarray:
    """The bytes of a file, uint8 [N]. Raises: FileNotFoundError; ValueError for a pipe or device."""
    if not os.path.isfile(path) and os.path.exists(path):
        raise ValueError(f"{path}: not a regular file; remove it")  # reading a pipe would wait for ever
    return np.fromfile(path, dtype=np.uint8)


def decode_image(data: np.ndarray, name: str | Path, apply_orientation: bool = False) -> Image:
    """Decode the bytes of an image file, uint8 [N], to RGB uint8 [H, W, 3]; errors call it `name`.

    JPEG, PNG, GIF, BMP, TIFF and WebP, told by content whatever the name, and the first picture if there are several;
    no other decoder of OpenCV is ever called. The pixels are those of Pillow's convert("RGB") for 8-bit RGB and grey;
    data/README.md has a table of the other kinds. The camera orientation (EXIF) is ignored as in Pillow and
    torchvision, unless `apply_orientation`. Nothing larger than MAX_PIXELS is decoded.
    Raises: ValueError if it is empty, truncated, no image, too large, too long and thin, or a kind that OpenCV
    would decode to a wrong picture.
    """
    flags = cv2.IMREAD_COLOR_RGB | (0 if apply_orientation else cv2.IMREAD_IGNORE_ORIENTATION)
    check_claims(data, name)
    if image_kind(data) == "PNG":
        data = without_animation(data)
    try:
        # imdecode gives None for a truncated file, where imread would fill the rest of a JPEG with grey
        image = cv2.imdecode(data, flags)
    except cv2.error:
        image = None
    if image is None:
        raise unreadable(data, name)
    if max(image.shape[:2]) > MAX_ASPECT_RATIO * min(image.shape[:2]):
        raise ValueError(
            f"{name}: {image.shape[1]} x {image.shape[0]} pixels; one side is over {MAX_ASPECT_RATIO} times the other"
        )
    return image


def unreadable(data: np.ndarray, name: str | Path) -> ValueError:
    return ValueError(f"{name}: not a readable image ({data.size} bytes); replace or remove the file")


# What a file says of itself is checked before it is decoded: a few bytes can ask for gigabytes. OpenCV's own limit is
# six times as high, can be set only before cv2 is first imported, and comes after its decoder of animated WebP has
# already taken the memory. Each reader below finds the size where the decoder finds it: at fixed places, by the
# marker rules of libjpeg, and for TIFF refusing every spelling of a size that libtiff might read in another way.


def check_claims(data: np.ndarray, name: str | Path) -> tuple[int, int]:
    """The width and height that a file claims.

    Raises: ValueError, before anything is decoded, if it is of no accepted kind or claims too many pixels.
    """
    kind = image_kind(data)
    try:
        size = IMAGE_KINDS[kind][1](data) if kind else None
    except struct.error:  # ends within its header
        size = None
    except ValueError as error:
        raise ValueError(f"{name}: {error}; save it as PNG with 8 bits a channel") from None
    if size is None:
        raise unreadable(data, name)
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{name}: claims {size[0]} x {size[1]} pixels, above the limit of {MAX_PIXELS:,}; make the image smaller, "
            "or remove the file"
        )
    return size


Size = tuple[int, int]  # width, height
JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)  # libjpeg, too, passes over fill bytes and garbage
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
BMP_BYTE_MASKS = frozenset({0xFF, 0xFF00, 0xFF0000, 0xFF000000})


def jpeg_size(data: np.ndarray) -> Size | None:
    """Of the first frame header; a second one is an error to libjpeg."""
    position = 2
    while match := JPEG_MARKER.search(data, position):
        position = match.end()
        marker = match[1][0]
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return width, height
        if marker not in JPEG_BARE:
            position += struct.unpack_from(">H", data, position)[0]
    return None


def png_size(data: np.ndarray) -> Size | None:
    """Of the IHDR chunk; None if a chunk is cut, for whose announced length OpenCV would take up to 2 GB."""
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    *_, (_, _, end) = png_chunks(data)
    return (width, height) if kind == b"IHDR" and end <= data.size else None


def png_chunks(data: np.ndarray) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk, the last being IEND. Raises: struct.error if there is no IEND."""
    kind, end = b"", 8
    while kind != b"IEND":
        start = end
        length, kind = struct.unpack_from(">I4s", data, start)
        end += 12 + length
        yield kind, start, end


def without_animation(data: np.ndarray) -> np.ndarray:
    """The still image of a PNG alone: damage in a later frame makes OpenCV 5.0 write outside its memory."""
    chunks = list(png_chunks(data))
    if not any(kind in PNG_ANIMATION for kind, _, _ in chunks):
        return data
    kept = [data[start:end] for kind, start, end in chunks if kind not in PNG_ANIMATION]
    return np.concatenate([data[:8], *kept])


def gif_size(data: np.ndarray) -> Size:
    """Of the logical screen, which every frame must lie in."""
    return struct.unpack_from("<HH", data, 6)


def bmp_size(data: np.ndarray) -> Size:
    """Of the info header. Raises: ValueError for masks that OpenCV overlooks, mixing up the channels."""
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if (bits, compression) == (32, 3):
        masks = struct.unpack_from("<III", data, 54)
        is_usual = masks == (0xFF0000, 0xFF00, 0xFF)
        if not (is_usual or (header_size >= 56 and BMP_BYTE_MASKS.issuperset(masks))):
            raise ValueError("a BMP with unusual bit masks")
    return abs(width), abs(height)


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


class TiffTag(enum.IntEnum):
    """The tags that say how much memory a TIFF takes and whether OpenCV reads it correctly."""

    WIDTH, HEIGHT, BITS, COLOURS, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT = 256, 257, 258, 262, 322, 323, 339


def tiff_size(data: np.ndarray) -> Size | None:
    """Of the first page, or of its tiles if they are larger. Raises: ValueError for what OpenCV gets wrong."""
    tags = read_tiff_tags(data)
    if tags is None or not {TiffTag.WIDTH, TiffTag.HEIGHT, TiffTag.COLOURS} <= tags.keys():
        return None
    tile = tags.get(TiffTag.TILE_WIDTH, 0), tags.get(TiffTag.TILE_HEIGHT, 0)
    if tags.get(TiffTag.SAMPLE_FORMAT, 1) != 1:
        raise ValueError("a TIFF of signed or floating-point samples")
    if tags[TiffTag.COLOURS] not in (0, 1, 2, 3, 5, 6):  # white or black is 0, RGB, palette, CMYK, YCbCr
        raise ValueError("a TIFF of an unusual colour space")
    if any(tile) and tags.get(TiffTag.BITS, 1) > 8:
        raise ValueError("a TIFF in tiles of more than 8 bits a sample")
    return max(tile, (tags[TiffTag.WIDTH], tags[TiffTag.HEIGHT]), key=math.prod)


def read_tiff_tags(data: np.ndarray) -> dict[int, int] | None:
    """The first value of each TiffTag in the first directory; None if one is there twice or of an unusual type."""
    order = "<" if data[0] == ord("I") else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    tags: dict[int, int] = {}
    for position in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, position)
        if tag not in TIFF_TAGS:
            continue
        is_per_sample = tag in (TiffTag.BITS, TiffTag.SAMPLE_FORMAT)
        if tag in tags or kind not in TIFF_TYPES or not (count == 1 or is_per_sample):
            return None
        letter, values_in_place = TIFF_TYPES[kind]
        where = position + 8
        if count > values_in_place:
            (where,) = struct.unpack_from(order + "I", data, where)
        (tags[tag],) = struct.unpack_from(order + letter, data, where)
    return tags


TIFF_TAGS = frozenset(TiffTag)
TIFF_TYPES = {3: ("H", 2), 4: ("I", 1)}  # type -> (struct letter, how many fit into the entry itself)
IMAGE_KINDS: dict[str, tuple[re.Pattern[bytes], Callable[[np.ndarray], Size | None]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), jpeg_size),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), png_size),
    "GIF": (re.compile(rb"GIF8[79]a"), gif_size),
    "BMP": (re.compile(rb"BM"), bmp_size),
    "TIFF": (re.compile(rb"II\*\0|MM\0\*"), tiff_size),
    "WebP": (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), webp_size),
}


def image_kind(data: np.ndarray) -> str | None:
    """What the first bytes of a file, uint8 [N], say it is: a key of IMAGE_KINDS, or None."""
    return next((kind for kind, (magic, _) in IMAGE_KINDS.items() if magic.match(data)), None)


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
