# SPDX-License-Identifier: Apache-2.0
"""imgproc.py against Pillow's decoders and torchvision's transforms on Pillow images."""

import base64
import contextlib
import io
import math
import random
import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
import torch
from conftest import ROOT
from numpy.random import default_rng
from PIL import Image, ImageOps
from torchvision import transforms
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

import imgproc
from core import image_files, image_names, pixels

pillow_heif.register_heif_opener()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Waves over all levels, different in each channel."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127.5 + 127.5 * np.sin(x / 17 + 2 * channel) * np.cos(y / (11 + channel)) for channel in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def photo(height: int, width: int) -> np.ndarray:
    """Smooth on the left, noise on the right."""
    image = smooth(height, width)
    image[:, width // 2 :] = noise(height, width)[:, width // 2 :]
    return image


def largest_difference(ours: np.ndarray, theirs: np.ndarray | Image.Image) -> int:
    theirs = np.asarray(theirs)
    assert ours.dtype == theirs.dtype == np.uint8
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


def assert_share(hits: int, draws: int, probability: float) -> None:
    """Within 4 standard deviations of a binomial: 1 in 16,000 fair counts lies outside, and the seeds are fixed."""
    assert abs(hits - draws * probability) <= 4 * math.sqrt(draws * probability * (1 - probability))


def assert_uniform(counts: Sequence[int]) -> None:
    """Pearson's chi-square, within 4 standard deviations of its mean: both follow from the degrees of freedom."""
    expected = sum(counts) / len(counts)
    degrees = len(counts) - 1
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    assert abs(chi_square - degrees) <= 4 * math.sqrt(2 * degrees)


def assert_same_distribution(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Kolmogorov and Smirnov's two-sample test at a level of 0.1 %."""
    levels = np.union1d(ours, theirs)
    shares = [np.searchsorted(np.sort(sample), levels, side="right") / len(sample) for sample in (ours, theirs)]
    assert np.abs(shares[0] - shares[1]).max() <= 1.95 * math.sqrt(1 / len(ours) + 1 / len(theirs))


# load_image

FORMATS = {
    "baseline 4:2:0.jpg": {"quality": 90, "subsampling": "4:2:0"},
    "baseline 4:2:2.jpg": {"quality": 90, "subsampling": "4:2:2"},
    "baseline 4:4:4.jpg": {"quality": 90, "subsampling": "4:4:4"},
    "progressive 4:2:0.jpg": {"quality": 90, "subsampling": "4:2:0", "progressive": True},
    "progressive 4:4:4.jpg": {"quality": 90, "subsampling": "4:4:4", "progressive": True},
    "low quality.jpeg": {"quality": 20},
    "image.png": {},
    "image.bmp": {},
    "lossless.webp": {"lossless": True},
    "image.gif": {},
    "image.tif": {},
    "packed.tif": {"compression": "tiff_lzw"},
    "image.avif": {"speed": 10},
    "image.heic": {},
}


def pillow_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(params=FORMATS)
def image_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A colour image of odd sides: chroma blocks of 2 x 2 and JPEG blocks are cut at its edges."""
    path = tmp_path / request.param
    Image.fromarray(photo(157, 203)).save(path, **FORMATS[request.param])
    return path


def test_size_is_that_of_the_decoded_image(image_path: Path) -> None:
    assert image_files.read_size(image_path) == (157, 203)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("shape", [(157, 203), (64, 96), (1, 1)])
@pytest.mark.parametrize("name", FORMATS)
def test_pixels_equal_pillow(name: str, shape: tuple[int, int], mode: str, tmp_path: Path) -> None:
    Image.fromarray(photo(*shape)).convert(mode).save(tmp_path / name, **FORMATS[name])
    ours = image_files.load_image(tmp_path / name)
    assert ours.shape == (*shape, 3)
    assert largest_difference(ours, pillow_pixels(tmp_path / name)) == 0


@pytest.mark.parametrize("name", ["image.png", "image.bmp", "lossless.webp", "image.tif"])
def test_lossless_formats_give_back_what_was_stored(name: str, tmp_path: Path) -> None:
    Image.fromarray(photo(31, 45)).save(tmp_path / name, **FORMATS[name])
    assert largest_difference(image_files.load_image(tmp_path / name), photo(31, 45)) == 0


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA"])
def test_other_kinds_of_png_equal_pillow(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(photo(30, 41)).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(noise(30, 41, seed=1)[..., 0]))
    image.save(tmp_path / "image.png")
    theirs = pillow_pixels(tmp_path / "image.png")
    assert largest_difference(image_files.load_image(tmp_path / "image.png"), theirs) == 0


@pytest.mark.parametrize("suffix", image_names.IMAGE_SUFFIXES)
def test_every_listed_suffix_can_be_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    kinds = {".apng": "PNG", ".dib": "BMP", ".jif": "JPEG"}  # of the others, Pillow knows the suffix
    Image.fromarray(smooth(20, 30)).save(path, kinds.get(suffix))
    assert largest_difference(image_files.load_image(path), pillow_pixels(path)) == 0


def test_path_may_be_text_and_hold_any_letters(tmp_path: Path) -> None:
    path = tmp_path / "Füße 犬.png"
    Image.fromarray(smooth(9, 8)).save(path)
    assert largest_difference(image_files.load_image(str(path)), smooth(9, 8)) == 0


# Camera orientation

ORIENTED = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")


def oriented(kind: str, orientation: int) -> bytes:
    """A photo with one of the eight camera orientations of EXIF tag 274."""
    exif = Image.Exif()
    exif[274] = orientation
    return saved(photo(37, 58), kind, exif=exif if kind == "TIFF" else exif.tobytes())


def upright_pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def as_bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ORIENTED)
def test_orientation_is_ignored_by_default(kind: str, orientation: int, tmp_path: Path) -> None:
    """Of TIFF, too, the pixels are as stored."""
    (tmp_path / "image").write_bytes(oriented(kind, orientation))
    image = image_files.load_image(tmp_path / "image")
    assert image.shape == (37, 58, 3)
    assert np.array_equal(image, decoded(saved(photo(37, 58), kind)))
    assert image_files.read_size(tmp_path / "image") == (37, 58)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ORIENTED)
def test_orientation_is_applied_on_request(kind: str, orientation: int, tmp_path: Path) -> None:
    data = oriented(kind, orientation)
    (tmp_path / "image").write_bytes(data)
    image = image_files.load_image(tmp_path / "image", apply_orientation=True)
    assert largest_difference(image, upright_pixels(data)) == 0
    assert image_files.read_size(tmp_path / "image", apply_orientation=True) == image.shape[:2]
    assert image_files.read_orientation(as_bytes(data)) == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_upright_in_either_case(orientation: int) -> None:
    """pillow-heif writes the rotation and the mirror as properties, which libheif carries out."""
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(smooth(38, 58), "HEIF", exif=exif.tobytes())
    with Image.open(io.BytesIO(data)) as picture:
        theirs = np.asarray(picture.convert("RGB"))
    assert np.abs(theirs.astype(int) - pixels.turn_upright(smooth(38, 58), orientation)).mean() < 5
    for apply_orientation in (False, True):
        assert largest_difference(image_files.decode_image(as_bytes(data), "", apply_orientation), theirs) == 0
    assert image_files.read_orientation(as_bytes(data)) == 1


def test_exif_tag_of_a_heic_without_properties_says_nothing() -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = saved(photo(37, 58), "HEIF", exif=exif)  # of an Exif object pillow-heif makes no properties
    assert b"irot" not in data and exif.tobytes()[6:] in data
    assert image_files.read_orientation(as_bytes(data)) == 1
    assert image_files.decode_image(as_bytes(data), "", apply_orientation=True).shape == (37, 58, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_upright_is_exact(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(noise(5, 7))
    picture.info["exif"] = exif.tobytes()
    assert np.array_equal(pixels.turn_upright(noise(5, 7), orientation), np.asarray(ImageOps.exif_transpose(picture)))


def test_orientation_is_found_where_else_pillow_finds_it() -> None:
    """In XMP alone, and in a chunk of a PNG behind the pixels."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="8"/>'
    exif = Image.Exif()
    exif[274] = 3
    png_file = saved(PIXELS, "PNG")
    png_file = png_file[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + png_file[-12:]
    for data, orientation in ((saved(PIXELS, "JPEG", xmp=xmp), 8), (saved(PIXELS, "WEBP", xmp=xmp), 8), (png_file, 3)):
        assert image_files.read_orientation(as_bytes(data)) == orientation
        ours = image_files.decode_image(as_bytes(data), "", apply_orientation=True)
        assert largest_difference(ours, upright_pixels(data)) == 0


def test_orientation_that_makes_no_sense_is_upright() -> None:
    for orientation in (0, 9, 65535):
        assert image_files.read_orientation(as_bytes(oriented("JPEG", orientation))) == 1
    generator = default_rng(0)
    for kind in (*ORIENTED, "HEIF", "BMP"):
        data = as_bytes(oriented(kind, 6))
        for _ in range(100):
            assert image_files.read_orientation(spoil(data.tobytes(), generator)) in range(1, 9)
        for length in range(0, 300, 7):
            assert image_files.read_orientation(data[:length]) in range(1, 9)


def assert_unreadable(path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(str(path))):
        image_files.load_image(path)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_truncated_file_is_an_error_that_names_it(image_path: Path, share: float) -> None:
    content = image_path.read_bytes()
    image_path.write_bytes(content[: int(share * len(content))])
    assert_unreadable(image_path)


@pytest.mark.parametrize("missing_bytes", [1, 2, 16])
def test_file_without_its_last_bytes_is_an_error_that_names_it(image_path: Path, missing_bytes: int) -> None:
    image_path.write_bytes(image_path.read_bytes()[:-missing_bytes])
    assert_unreadable(image_path)


@pytest.mark.parametrize("content", [b"", b"\0", b"this is not an image\n" * 100, b"\xff\xd8\xff"])
def test_what_is_no_image_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(content)
    assert_unreadable(tmp_path / "image.jpg")


def test_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "image.jpg"))):
        image_files.load_image(tmp_path / "image.jpg")


@pytest.mark.parametrize("shape", [(1001, 1), (1, 1001), (2003, 2)])
def test_too_extreme_a_shape_is_an_error_that_names_the_file(shape: tuple[int, int], tmp_path: Path) -> None:
    Image.fromarray(smooth(*shape)).save(tmp_path / "image.png")
    assert_unreadable(tmp_path / "image.png")


@pytest.mark.parametrize("shape", [(1000, 1), (1, 1000), (2000, 2)])
def test_most_extreme_shape_allowed_is_read(shape: tuple[int, int], tmp_path: Path) -> None:
    Image.fromarray(smooth(*shape)).save(tmp_path / "image.png")
    assert largest_difference(image_files.load_image(tmp_path / "image.png"), smooth(*shape)) == 0


# Image kinds: every row of the table in data/README.md

HEIGHT, WIDTH = 29, 42
PIXELS = photo(HEIGHT, WIDTH)
GREY = PIXELS[..., 0]
ALPHA = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
RGBA = np.dstack([PIXELS, ALPHA])
PIXELS_16 = PIXELS * np.uint16(256) + noise(HEIGHT, WIDTH, seed=2)  # PIXELS are its high bytes
SAVE = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "AVIF": {"speed": 10}}


def saved(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **SAVE.get(kind, {}) | options)
    return buffer.getvalue()


def palette_image(colours: int = 64) -> Image.Image:
    return Image.fromarray(PIXELS).quantize(colours)


def cmyk_image() -> Image.Image:
    return Image.frombytes("CMYK", (WIDTH, HEIGHT), np.dstack([PIXELS, noise(HEIGHT, WIDTH, seed=3)[..., 0]]).tobytes())


def cmyk_jpeg(transform: int | None) -> bytes:
    """With Adobe's marker saying 0 (CMYK) or 2 (YCCK), or without it."""
    data = bytearray(saved(cmyk_image(), "JPEG"))
    start = data.index(b"\xff\xee\x00\x0eAdobe")
    data[start + 15] = transform or 0
    return bytes(data if transform is not None else data[:start] + data[start + 16 :])


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    rows: bytes, bits: int, colours: int, *, sides: tuple[int, int] = (WIDTH, HEIGHT), before: bytes = b""
) -> bytes:
    """`colours`: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA; `rows` with a filter byte each."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *sides, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_rows(image: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in image)


def packed_rows(bits: int, align: int = 1, head: bytes = b"") -> bytes:
    """Random rows of pixels of 1, 2, 4 or 16 bits."""
    length = -(-WIDTH * bits // 8)
    rows = default_rng(4).integers(0, 256, (HEIGHT, length), dtype=np.uint8)
    return b"".join(head + row.tobytes() + bytes(-length % align) for row in rows)


def bmp(pixels: bytes, bits: int, compression: int = 0, *, sides: tuple[int, int] = (WIDTH, HEIGHT), more: bytes = b""):
    """`more`: the palette or the bit masks."""
    offset = 54 + len(more)
    header = struct.pack("<IiiHHIIiiII", 40, *sides, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + more + pixels


def rle8() -> bytes:
    rows = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in GREY)
    return bmp(rows + b"\0\1", 8, 1, more=default_rng(5).integers(0, 256, 1024, dtype=np.uint8).tobytes())


def tiff(pixels: np.ndarray, colours: int, **changes: list[int]) -> bytes:
    """One uncompressed strip. `colours`: 0 white is 0, 1 black is 0, 2 RGB, 8 Lab; `changes`: t<tag> = its values."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    tags = {256: [pixels.shape[1]], 257: [pixels.shape[0]], 258: [8 * pixels.itemsize] * samples, 259: [1]}
    tags |= {262: [colours], 273: [8], 277: [samples], 278: [pixels.shape[0]], 279: [pixels.nbytes]}
    tags |= {int(name[1:]): values for name, values in changes.items()}
    tags = {tag: values for tag, values in tags.items() if values}
    entries, extra = b"", b""
    end = 8 + pixels.nbytes + pixels.nbytes % 2 + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack("<I", end + len(extra))
        extra += packed if len(values) > 1 else b""
        entries += struct.pack("<HHI", tag, 4, len(values)) + place
    content = pixels.tobytes() + bytes(pixels.nbytes % 2)
    start = struct.pack("<4sI", b"II*\0", 8 + len(content))
    return start + content + struct.pack("<H", len(tags)) + entries + bytes(4) + extra


def tiled_tiff(pixels: np.ndarray, colours: int) -> bytes:
    """Of one tile, with the image in its corner."""
    tile = np.zeros((64, 64, *pixels.shape[2:]), pixels.dtype)
    tile[:HEIGHT, :WIDTH] = pixels
    tags = {"t256": [WIDTH], "t257": [HEIGHT], "t322": [64], "t323": [64], "t324": [8], "t325": [tile.nbytes]}
    return tiff(tile, colours, **tags, t273=[], t278=[], t279=[])


def gif(
    screen: tuple[int, int], frame: tuple[int, int, int, int], pixels: bytes, transparent: int | None = None
) -> bytes:
    """Of 9-bit codes, with a clear code before every 200; the palette's levels are 0 0 0, 1 1 1, ...; background 7."""
    codes = [c for i in range(0, len(pixels), 200) for c in (256, *pixels[i : i + 200])] + [257]
    bits = sum(code << 9 * index for index, code in enumerate(codes))
    stream = bits.to_bytes(-(-9 * len(codes) // 8), "little")
    blocks = b"".join(bytes([len(stream[i : i + 255])]) + stream[i : i + 255] for i in range(0, len(stream), 255))
    palette = bytes(np.repeat(np.arange(256), 3).tolist())
    extension = b"" if transparent is None else bytes([0x21, 0xF9, 4, 1, 0, 0, transparent, 0])
    start = b"GIF89a" + struct.pack("<HHBBB", *screen, 0xF7, 7, 0) + palette + extension
    return start + struct.pack("<BHHHHBB", 0x2C, *frame, 0, 8) + blocks + b"\0;"


def animated_png() -> bytes:
    """With a still image that is not one of its three frames."""
    frames = [Image.fromarray(noise(HEIGHT, WIDTH, seed)) for seed in (7, 8, 9)]
    return saved(PIXELS, "PNG", save_all=True, default_image=True, append_images=frames)


def grey_as_rgb(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[..., None], 3, axis=-1)


def framed_gif_pixels() -> np.ndarray:
    pixels = np.full((HEIGHT, WIDTH), 7, np.uint8)
    pixels[3:13, 5:25] = GREY[:10, :20]
    return grey_as_rgb(pixels)


def animation(kind: str, image: Image.Image | np.ndarray, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return saved(image, kind, save_all=True, append_images=[image.rotate(180)], **options)


def jpegs() -> list[bytes]:
    subsamplings = ("4:4:4", "4:2:2", "4:2:0")
    return [saved(PIXELS, "JPEG", subsampling=s, progressive=p) for s in subsamplings for p in (False, True)] + [
        saved(GREY, "JPEG"),
        saved(PIXELS, "JPEG", keep_rgb=True),
        saved(PIXELS, "JPEG", restart_marker_blocks=2),
    ]


def grey_pngs() -> list[bytes]:
    return [saved(GREY, "PNG"), *(png(packed_rows(bits, head=b"\0"), bits, 0) for bits in (1, 2, 4))]


def palette_pngs() -> list[bytes]:
    colours = chunk(b"PLTE", default_rng(6).integers(0, 256, 48, dtype=np.uint8).tobytes())
    four_bits = png(packed_rows(4, head=b"\0"), 4, 3, before=colours)
    partly = saved(palette_image(), "PNG", transparency=bytes(range(0, 256, 4)))
    return [saved(palette_image(), "PNG"), four_bits, saved(palette_image(), "PNG", transparency=5), partly]


def written(pixels: np.ndarray, **options: object) -> bytes:
    """A TIFF by tifffile, in several strips."""
    buffer = io.BytesIO()
    if "tile" not in options:
        options.setdefault("rowsperstrip", 10)
    tifffile.imwrite(buffer, pixels, metadata=None, **options)
    return buffer.getvalue()


COMPRESSIONS = ("lzw", "deflate", "adobe_deflate", "packbits", "zstd", "lzma")
WITH_ALPHA = {"photometric": "rgb", "extrasamples": ["unassalpha"]}


def tiff_files() -> list[bytes]:
    lines = Image.fromarray(PIXELS).convert("1")
    modes = [saved(Image.fromarray(PIXELS).convert(mode), "TIFF") for mode in ("1", "L", "P", "RGB", "CMYK")]
    tiled = [tiled_tiff(PIXELS, 2), tiled_tiff(GREY, 1), tiled_tiff(RGBA, 5)]
    # of a size that is no multiple of 1,024 bytes, which imdecode gave up on
    tiled += [written(noise(16, 16)[..., 0], photometric="minisblack", tile=(16, 16))]
    tiled += [written(noise(240, 240), photometric="rgb", tile=(240, 240))]
    grey = [
        tiff(
            default_rng(bits).integers(0, 256, (HEIGHT, -(-WIDTH * bits // 8)), dtype=np.uint8),
            colours,
            t258=[bits],
            t256=[WIDTH],
        )
        for bits in (1, 2, 4)
        for colours in (0, 1)
    ]
    planes = [
        written(PIXELS.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=tile)
        for tile in ((16, 16), None)
    ]
    return modes + tiled + grey + planes + [tiff(GREY, 0), saved(lines, "TIFF"), animation("TIFF", PIXELS)]


def compressed_tiffs() -> list[bytes]:
    lines = Image.fromarray(PIXELS).convert("1")
    fax = [saved(lines, "TIFF", compression=kind) for kind in ("tiff_ccitt", "group3", "group4")]
    jpeg = [saved(image, "TIFF", compression="jpeg") for image in (PIXELS, GREY, cmyk_image())]
    plain = [written(PIXELS, photometric="rgb", compression=kind) for kind in COMPRESSIONS]
    tiled = [written(PIXELS, photometric="rgb", compression=kind, tile=(16, 32)) for kind in COMPRESSIONS]
    predicted = [written(PIXELS, photometric="rgb", compression=kind, predictor=2) for kind in ("lzw", "deflate")]
    return fax + jpeg + plain + tiled + predicted


def deep_tiffs() -> list[bytes]:
    """Of 16 bits."""
    orders = [written(PIXELS_16, photometric="rgb", byteorder=order, compression="lzw") for order in "<>"]
    four = np.dstack([PIXELS_16, ALPHA * np.uint16(257)])
    planes = written(PIXELS_16.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="lzw")
    tiled = written(PIXELS_16, photometric="rgb", tile=(16, 16))
    return [
        *orders,
        planes,
        tiled,
        tiff(PIXELS_16, 2),
        written(four, photometric="separated"),
        written(four, **WITH_ALPHA),
    ]


def deep_grey_tiffs() -> list[bytes]:
    grey = PIXELS_16[..., 0]
    orders = [written(grey, photometric="minisblack", byteorder=order) for order in "<>"]
    tiled = written(grey, photometric="minisblack", tile=(16, 16), compression="deflate")
    return [*orders, tiled, written(65535 - grey, photometric="miniswhite")]


def other_tiffs() -> list[bytes]:
    grey = PIXELS_16[..., 0]
    ycbcr = [written(PIXELS, photometric="ycbcr", compression=kind) for kind in ("lzw", "packbits")]
    return [
        *ycbcr,
        *(FLOAT_TIFF, tiff(GREY, 1, t339=[2]), tiff(PIXELS, 8), tiff(PIXELS, 2, t262=[])),
        *(tiff(grey, 1, t258=[12]), tiff(GREY, 3, t320=[200] * 768)),
        written(np.dstack([grey, grey]), photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig"),
        saved(Image.fromarray(PIXELS[..., 0].astype(np.int32)), "TIFF"),
    ]


def with_compression(number: int) -> bytes:
    return tiff(np.full((32, 32, 3), 90, np.uint8), 2, t259=[number])


def heic_of_10_bits(pixels: np.ndarray, mode: str) -> bytes:
    """Of the high bits of 16, lossless."""
    buffer = io.BytesIO()
    pillow_heif.encode(mode, pixels.shape[1::-1], pixels.tobytes(), buffer, quality=-1)
    return buffer.getvalue()


def heics() -> list[bytes]:
    files = [saved(image, "HEIF") for image in (PIXELS, GREY, RGBA)]
    tiles = saved(photo(150, 170), "HEIF", tile_size=64)
    return [*files, tiles, heic_of_10_bits(PIXELS_16, "RGB;16"), animation("HEIF", PIXELS)]


def avifs() -> list[bytes]:
    files = [saved(image, "AVIF") for image in (PIXELS, GREY, RGBA)] + [animation("AVIF", PIXELS)]
    deep = [imagecodecs.avif_encode(PIXELS_16 >> 16 - bits, bitspersample=bits, level=90) for bits in (10, 12)]
    return files + [bytes(data) for data in deep]


# 16 x 8 pixels by cjpeg -arithmetic: no package that the tests use can write such a file
ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxO"
    "UlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT0//yQARCAAIABADAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD+y9jO/wAIyY61mKcxON6BsDLw"
    "cDbWa9ERyN/rKf/Z"
)
LOSSLESS_JPEGS = [
    bytes(imagecodecs.jpeg8_encode(pixels, lossless=True)) for pixels in (PIXELS, np.ascontiguousarray(GREY))
]
DEEP_GREY = PIXELS_16[..., 0] >> 4  # of 12 bits
OTHER_JPEGS = [
    bytes(imagecodecs.jpeg8_encode(DEEP_GREY, bitspersample=12)),
    bytes(imagecodecs.jpeg8_encode(PIXELS_16, lossless=True, bitspersample=16)),
    bytes(imagecodecs.jpegls_encode(PIXELS)),
    saved(PIXELS, "JPEG").replace(b"\xff\xc0", b"\xff\xc5"),
    saved(PIXELS, "JPEG").replace(struct.pack(">HHB", HEIGHT, WIDTH, 3), struct.pack(">HHB", HEIGHT, WIDTH, 2)),
]
USUAL_MASKS, OTHER_MASKS = ((0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000))
BMP_16_BIT_MASKS = (struct.pack("<III", 0xF800, 0x7E0, 0x1F), struct.pack("<III", 0x7C00, 0x3E0, 0x1F))
FLOAT_TIFF = tiff((GREY / 255).astype(np.float32), 1, t339=[3])


def bmps() -> list[bytes]:
    modes = [saved(Image.fromarray(PIXELS).convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]
    words = packed_rows(16, 4)
    short = [bmp(words, 16), *(bmp(words, 16, 3, more=masks) for masks in BMP_16_BIT_MASKS)]
    # as GIMP writes: the masks belong to a header of 56 bytes, the last 4 of which are the mask of alpha
    long = [bmp(words, 16, 3, more=masks + bytes(4)).replace(b"(\0\0\0", b"8\0\0\0", 1) for masks in BMP_16_BIT_MASKS]
    four = [bmp(noise(HEIGHT, WIDTH * 4).tobytes(), 32), bmp(PIXELS.tobytes() + bytes(99), 24, sides=(40, -HEIGHT))]
    return [*modes, *short, *long, *four, rle8()]


def misplaced_bmp() -> bytes:
    """With a palette of 256 colours, and pixels that begin where it does."""
    data = bytearray(bmp(GREY.tobytes(), 8, more=bytes(1024)))
    struct.pack_into("<I", data, 10, 54)
    struct.pack_into("<I", data, 46, 256)
    return bytes(data)


# the first column of the table -> files of the kind, and what they must give where that is not what Pillow gives
KINDS: dict[str, tuple[list[bytes], np.ndarray | None]] = {
    "JPEG, colour or grey": ([*jpegs(), *LOSSLESS_JPEGS, ARITHMETIC_JPEG], None),
    "JPEG, CMYK or YCCK": ([cmyk_jpeg(0), cmyk_jpeg(2), cmyk_jpeg(None)], None),
    "JPEG, other kinds": (OTHER_JPEGS, None),
    "PNG, 8-bit colour": (
        [saved(PIXELS, "PNG"), saved(PIXELS, "PNG", transparency=tuple(PIXELS[0, 0].tolist()))],
        None,
    ),
    "PNG, grey of 1 to 8 bits": (grey_pngs(), None),
    "PNG, palette": (palette_pngs(), None),
    "PNG with alpha": ([saved(RGBA, "PNG"), saved(Image.fromarray(RGBA).convert("LA"), "PNG")], None),
    "PNG, 16-bit colour": (
        [png(png_rows(PIXELS_16), 16, 2), png(png_rows(np.dstack([PIXELS_16, ALPHA * np.uint16(257)])), 16, 6)],
        None,
    ),
    "PNG, 16-bit grey": ([png(png_rows(PIXELS_16[..., 0]), 16, 0)], grey_as_rgb(GREY)),
    "PNG, animated": (
        [animation("PNG", PIXELS), animation("PNG", GREY), animation("PNG", palette_image()), animated_png()],
        None,
    ),
    "GIF": ([saved(palette_image(), "GIF", interlace=i) for i in (0, 1)] + [animation("GIF", palette_image())], None),
    "GIF with transparency": (
        [gif((WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT), GREY.tobytes(), transparent=200)],
        grey_as_rgb(np.where(GREY == 200, 7, GREY)),
    ),
    "GIF, first frame smaller than the screen": (
        [gif((WIDTH, HEIGHT), (5, 3, 20, 10), GREY[:10, :20].tobytes())],
        framed_gif_pixels(),
    ),
    "GIF, other kinds": ([b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 2, 0) + bytes(9)], None),
    "BMP": (bmps(), None),
    "BMP, other kinds": (
        [
            bmp(RGBA.tobytes(), 32, 3, more=struct.pack("<III", *OTHER_MASKS)),
            bmp(packed_rows(16, 4), 16, 3, more=struct.pack("<III", 0xF00, 0xF0, 0xF)),
            *(bmp(saved(PIXELS, kind), 24, compression) for kind, compression in (("JPEG", 4), ("PNG", 5))),
            bmp(PIXELS.tobytes(), 24)[14:],
            misplaced_bmp(),
            bmp(PIXELS.tobytes(), 24).replace(b"(\0\0\0", b"B\0\0\0", 1),
        ],
        None,
    ),
    "WebP": ([saved(PIXELS, "WEBP"), saved(PIXELS, "WEBP", lossless=False), animation("WEBP", PIXELS)], None),
    "WebP with alpha": ([saved(RGBA, "WEBP"), saved(RGBA, "WEBP", lossless=False), animation("WEBP", RGBA)], None),
    "TIFF, 8 bits or fewer": (tiff_files(), None),
    "TIFF, compressed": (compressed_tiffs(), None),
    "TIFF with alpha": (
        [tiff(RGBA, 2, t338=[2]), written(np.dstack([GREY, ALPHA]), photometric="minisblack", planarconfig="contig")],
        None,
    ),
    "TIFF, YCbCr": (
        [saved(Image.fromarray(PIXELS).convert("YCbCr"), "TIFF")]
        + [
            written(PIXELS, photometric="rgb", compression="jpeg", subsampling=pair)
            for pair in ((1, 1), (2, 1), (2, 2))
        ]
        + [written(PIXELS, photometric="ycbcr", compression="deflate")],
        None,
    ),
    "TIFF, 16-bit colour or CMYK": (deep_tiffs(), None),
    "TIFF, 16-bit colour in separate planes, uncompressed": (
        [written(PIXELS_16.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")],
        PIXELS,
    ),
    "TIFF, 16-bit grey": (deep_grey_tiffs(), grey_as_rgb(GREY)),
    "TIFF, other compressions": (
        [with_compression(number) for number in (6, 33005, 34712, 34892, 34933, 50001, 50002, 52546, 65000)],
        None,
    ),
    "TIFF, other kinds": (other_tiffs(), None),
    "BigTIFF, DNG and other raw files": (
        [
            written(PIXELS, photometric="rgb", bigtiff=True),
            *(tiff(PIXELS, 2, t254=[1]), tiff(PIXELS, 2, t50706=[1, 4, 0, 0]), b"II*\0\x10\0\0\0CR\2\0"),
            *(b"FUJIFILMCCD-RAW", b"\0\0\0\x18ftypcrx \0\0\0\1"),
        ],
        None,
    ),
    "HEIC": (heics(), None),
    "HEIC, grey of 10 or 12 bits": (
        [heic_of_10_bits(PIXELS_16[..., 0], "L;16")],
        grey_as_rgb(GREY),
    ),
    "HEIF without HEVC": ([saved(PIXELS, "HEIF").replace(b"hvcC", b"avcC")], None),
    "AVIF": (avifs(), None),
    "other formats": ([saved(PIXELS, kind) for kind in ("PPM", "JPEG2000", "TGA", "PDF", "ICO", "PCX")], None),
}


def table_rows() -> dict[str, str]:
    """First and last column of the table in the section "Image files" of data/README.md."""
    section = (ROOT / "data/README.md").read_text().split("## Image files")[1]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    return {row[0]: row[-1] for row in cells[2:]}


def decoded(data: bytes) -> np.ndarray:
    return image_files.decode_image(as_bytes(data), "image")


def test_table_of_image_kinds_is_complete() -> None:
    assert table_rows().keys() == KINDS.keys()


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")  # Pillow's advice
@pytest.mark.parametrize("kind", KINDS)
def test_image_kind_gives_what_the_table_says(kind: str) -> None:
    files, expected = KINDS[kind]
    stated = table_rows()[kind]
    for data in files:
        if stated == "refused":
            with pytest.raises(ValueError, match=r"^image: an? .+; save it as PNG with 8 bits a channel$"):
                decoded(data)
            continue
        with Image.open(io.BytesIO(data)) as picture:
            difference = largest_difference(decoded(data), picture.convert("RGB"))
        if stated == "differs":
            assert difference > 2
            assert np.abs(decoded(data) - expected.astype(float)).max() <= 1
        else:
            assert difference <= (0 if stated == "equal" else int(re.fullmatch(r"at most (\d+)", stated)[1]))


@pytest.mark.parametrize("name", ["disguised.JPEG", "disguised.png", "disguised.gif"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
def test_content_decides_not_the_name(kind: str, name: str, tmp_path: Path) -> None:
    """ImageNet has a PNG named .JPEG, and 22 CMYK files."""
    (tmp_path / name).write_bytes(saved(PIXELS, kind))
    assert largest_difference(image_files.load_image(tmp_path / name), pillow_pixels(tmp_path / name)) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "HEIC", "AVIF"])
def test_image_kind_names_the_content(kind: str) -> None:
    data = saved(palette_image() if kind == "GIF" else PIXELS, kind.upper().replace("HEIC", "HEIF"))
    assert image_files.image_kind(as_bytes(data)) == kind
    assert image_files.image_kind(as_bytes(data[1:])) is None


@pytest.mark.parametrize(
    ("major", "compatible", "kind"),
    [
        (b"heic", b"mif1heic", "HEIC"),
        (b"mif1", b"mif1heic", "HEIC"),
        (b"mif1", b"mif1miafavif", "AVIF"),
        (b"msf1", b"avis", "AVIF"),
        (b"hevc", b"msf1", "HEIC"),
        (b"heix", b"avif", "HEIC"),
        (b"isom", b"avc1", None),
    ],
)
def test_brands_of_a_container_tell_heic_from_avif(major: bytes, compatible: bytes, kind: str | None) -> None:
    content = b"ftyp" + major + bytes(4) + compatible
    data = struct.pack(">I", len(content) + 4) + content + bytes(100)
    assert image_files.image_kind(as_bytes(data)) == kind


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (OTHER_JPEGS[0], "a JPEG of 12 bits a channel"),
        (OTHER_JPEGS[1], "a lossless JPEG of 16 bits a channel"),
        (OTHER_JPEGS[2], "a JPEG-LS"),
        (OTHER_JPEGS[3], "a hierarchical JPEG"),
        (OTHER_JPEGS[4], "a JPEG of 2 channels"),
        (with_compression(34712), "a TIFF with compression 34712 (JPEG 2000)"),
        (with_compression(50002), "a TIFF with compression 50002 (JPEG XL)"),
        (with_compression(65000), "a TIFF with compression 65000"),
        (tiff(PIXELS, 8), "a TIFF of colour space 8 (Lab)"),
        (tiff(GREY, 1, t258=[12]), "a TIFF of 12 bits a sample"),
        (tiff(PIXELS, 2, t50706=[1]), "a camera's raw file (DNG)"),
        (tiff(np.dstack([PIXELS_16] * 3), 2), "a TIFF of 9 x 16 bits in colour space 2"),
        (b"MM\0+\0\x08\0\0", "a BigTIFF"),
        (saved(PIXELS, "JPEG2000"), "a JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "a video"),
        (saved(PIXELS, "TGA"), "a TGA"),
    ],
)
def test_refusal_names_the_kind_and_what_to_do(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^image: {re.escape(words)}; save it as PNG with 8 bits a channel$"):
        decoded(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"PK\x03\x04" + bytes(30), "an archive"),
    ],
)
def test_what_stands_in_for_an_image_is_named(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=f"^image: {words}, not an image; get the image itself, or remove the file$"):
        decoded(data)


@pytest.mark.parametrize(
    ("kind", "module", "package"), [("HEIF", "pillow_heif", "pillow-heif"), ("TIFF", "PIL", "pillow")]
)
def test_missing_package_is_named(kind: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, name = saved(PIXELS, kind), {"HEIF": "HEIC"}.get(kind, kind)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"^image: reading {name} needs the package {package}; pip install -r requir"):
        decoded(data)


# Damage: a picture comes out whole, or not at all


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_container_cut_anywhere_is_refused(kind: str) -> None:
    data = saved(photo(64, 96), kind)
    for length in range(0, len(data), 5):
        with pytest.raises(ValueError, match="^image: not a readable image"):
            decoded(data[:length])


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


# Decompression bombs: nothing larger than Pillow's limit is decoded


def jpeg_claiming(width: int, height: int, **options: object) -> bytes:
    data = bytearray(saved(PIXELS, "JPEG", **options))
    start = re.search(rb"\xff[\xc0\xc2]", data).start()
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    data = animation("WEBP", PIXELS)
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return data[:24] + sides + data[30:]


def lossless_webp_claiming(width: int, height: int) -> bytes:
    data = saved(PIXELS, "WEBP")
    return data[:21] + struct.pack("<I", width - 1 | height - 1 << 14) + data[25:]


def lossy_webp_claiming(width: int, height: int) -> bytes:
    data = saved(PIXELS, "WEBP", lossless=False)
    return data[:26] + struct.pack("<HH", width, height) + data[30:]


def container_claiming(data: bytes, width: int, height: int) -> bytes:
    """An AVIF or HEIC."""
    start = data.index(b"ispe") + 8
    return data[:start] + struct.pack(">II", width, height) + data[start + 8 :]


BOMBS: dict[str, tuple[bytes, tuple[int, int]]] = {
    "PNG": (png(bytes(50_000_000), 8, 2, sides=(60_000, 60_000)), (60_000, 60_000)),
    "smaller PNG": (png(bytes(1000), 16, 6, sides=(13_378, 13_377)), (13_378, 13_377)),
    "JPEG": (jpeg_claiming(65_500, 65_500), (65_500, 65_500)),
    "progressive JPEG": (jpeg_claiming(65_500, 65_500, progressive=True)[:-300], (65_500, 65_500)),
    "smaller progressive JPEG": (jpeg_claiming(30_000, 30_000, progressive=True), (30_000, 30_000)),
    "JPEG after 70 kB of notes": (
        (lambda data: data[:2] + (b"\xff\xfe\xff\xff" + bytes(65533)) * 2 + b"\xff\xff" + data[2:])(
            jpeg_claiming(30_000, 30_000)
        ),
        (30_000, 30_000),
    ),
    "GIF of a small frame": (gif((65_535, 65_535), (0, 0, 10, 10), bytes(100)), (65_535, 65_535)),
    "BMP": (bmp(b"", 24, sides=(60_000, 60_000)), (60_000, 60_000)),
    "BMP from the top": (bmp(b"", 24, sides=(60_000, -60_000)), (60_000, 60_000)),
    "BMP of the lowest height": (bmp(b"", 24, sides=(1, -(2**31))), (1, 2**31)),
    "BMP in runs": (bmp(b"\0\1", 8, 1, sides=(60_000, 60_000), more=bytes(1024)), (60_000, 60_000)),
    "animated WebP": (webp_claiming(30_000, 30_000), (30_000, 30_000)),
    "lossless WebP": (lossless_webp_claiming(16_384, 16_384), (16_384, 16_384)),
    "lossy WebP": (lossy_webp_claiming(16_383, 16_383), (16_383, 16_383)),
    "TIFF": (tiff(PIXELS, 2, t256=[60_000], t257=[60_000]), (60_000, 60_000)),
    "TIFF tile": (tiff(PIXELS, 2, t322=[60_000], t323=[60_000], t324=[8], t325=[99]), (60_000, 60_000)),
    "AVIF": (container_claiming(saved(PIXELS, "AVIF"), 60_000, 60_000), (60_000, 60_000)),
    "smaller AVIF": (container_claiming(saved(PIXELS, "AVIF"), 13_378, 13_377), (13_378, 13_377)),
    "HEIC": (container_claiming(saved(PIXELS, "HEIF"), 60_000, 60_000), (60_000, 60_000)),
    "smaller HEIC": (container_claiming(saved(PIXELS, "HEIF"), 13_378, 13_377), (13_378, 13_377)),
}
# not the number of pixels but another number asks for memory, or is given in two ways
TRAPS: dict[str, bytes] = {
    "length of a PNG chunk": png(b"", 8, 2)[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + bytes(50),
    "second JPEG frame": saved(PIXELS, "JPEG")[:-2] + jpeg_claiming(60_000, 60_000)[2:],
    "width of a TIFF twice": tiff(PIXELS, 2).replace(struct.pack("<HH", 259, 4), struct.pack("<HH", 256, 4)),
    "HEIC larger than it claims": container_claiming(saved(np.zeros((1024, 1024, 3), np.uint8), "HEIF"), 8, 8),
    "tiles of a HEIC": saved(photo(150, 170), "HEIF", tile_size=64).replace(
        struct.pack(">BBHH", 2, 2, 170, 150), struct.pack(">BBHH", 2, 2, 60_000, 60_000)
    ),
    "width of a TIFF as bytes": tiff(PIXELS, 2).replace(struct.pack("<HH", 256, 4), struct.pack("<HH", 256, 1)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused_by_its_size(name: str) -> None:
    data, (width, height) = BOMBS[name]
    assert len(data) < 200_000
    with pytest.raises(
        ValueError, match=rf"^image: claims {width} x {height} pixels, above the limit of 178,956,970; "
    ):
        decoded(data)


def test_limit_is_the_one_of_pillow() -> None:
    assert 2 * Image.MAX_IMAGE_PIXELS == pixels.MAX_PIXELS


def test_image_below_the_limit_is_read() -> None:
    """Of 5 Mpixel, from a file of 10 kB: that a file is small says nothing."""
    rows = (b"\0" + bytes(625)) * 1000
    assert decoded(png(rows, 1, 0, sides=(5000, 1000))).shape == (1000, 5000, 3)


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    for index, data in enumerate((*(data for data, _ in BOMBS.values()), *TRAPS.values())):
        (tmp_path / f"{index}.png").write_bytes(data)
    code = (
        "import resource, sys, imgproc\n"
        "assert not {'PIL', 'pillow_heif'} & sys.modules.keys()\n"  # they are loaded when a file needs them
        "import PIL.AvifImagePlugin, PIL.TiffImagePlugin, pillow_heif\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before, refused = peak(), 0\n"
        "for path in sys.argv[1:]:\n"
        "    try: imgproc.load_image(path)\n"
        "    except ValueError: refused += 1\n"
        "print(refused, peak() - before)\n"
    )
    files = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *files], cwd=ROOT, capture_output=True, text=True, check=True
    )
    refused, kilobytes = map(int, done.stdout.split())
    assert refused >= len(files) - 1  # libjpeg stops reading at the end of the first image
    assert kilobytes < 50_000


def spoil(data: bytes, generator: np.random.Generator) -> np.ndarray:
    """Turn over up to two bits, near the start or the end."""
    spoilt = np.frombuffer(data, dtype=np.uint8).copy()
    for _ in range(generator.integers(3)):
        ends = (0, min(500, spoilt.size)) if generator.random() < 0.5 else (max(0, spoilt.size - 300), spoilt.size)
        spoilt[generator.integers(*ends)] ^= 1 << generator.integers(8)
    return spoilt


def test_damaged_file_is_decoded_to_its_claimed_size_or_refused() -> None:
    generator, decoded_files = default_rng(0), 0
    files = [data for files, _ in KINDS.values() for data in files]
    for _ in range(3000):
        data = spoil(files[generator.integers(len(files))], generator)
        try:
            width, height = image_files.check_claims(data, "image")
            if width * height > 1_000_000:
                continue  # allowed, but slow
            image = image_files.decode_image(data, "image")
        except ValueError:
            continue
        decoded_files += 1
        assert image.shape == (height, width, 3)
    assert decoded_files > 500


def test_damage_in_a_later_frame_of_a_png_does_no_harm() -> None:
    """OpenCV 5.0.0 itself crashes on many of these."""
    data, generator = animated_png(), default_rng(0)
    start = data.index(b"fdAT") + 8
    for _ in range(300):
        spoilt = np.frombuffer(data, dtype=np.uint8).copy()
        spoilt[generator.integers(start, len(data) - 12)] ^= 1 << generator.integers(8)
        with contextlib.suppress(ValueError):  # the length of a chunk was hit
            assert largest_difference(image_files.decode_image(spoilt, "image"), PIXELS) == 0


# eval_transform

SHORT_SIDES = {32: 37, 64: 73, 96: 110, 128: 146, 160: 183, 192: 219, 224: 256, 299: 342}  # the size over 0.875
SHAPES = (
    *((256, 256), (224, 224), (375, 500), (500, 375), (187, 140), (1200, 900)),
    *((20, 31), (8, 8), (2, 3), (1, 1)),  # smaller than any crop
    *((7, 400), (400, 7), (20, 900), (900, 20), (1, 100)),
)


@pytest.mark.parametrize("image_size", SHORT_SIDES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("content", [smooth, noise])
def test_eval_transform_within_2_levels_of_torchvision(
    content: Callable[[int, int], np.ndarray], shape: tuple[int, int], image_size: int
) -> None:
    image = content(*shape)
    reference = transforms.Compose([transforms.Resize(SHORT_SIDES[image_size]), transforms.CenterCrop(image_size)])
    ours, theirs = imgproc.eval_transform(image, image_size), np.asarray(reference(Image.fromarray(image)))
    assert largest_difference(ours, theirs) <= 2
    assert abs(ours.mean() - theirs.mean()) < 0.05  # no drift to brighter or darker
    assert ours.flags.c_contiguous


def test_eval_transform_leaves_its_input_alone() -> None:
    image = noise(37, 37)
    imgproc.eval_transform(image, 32)[:] = 0
    assert np.array_equal(image, noise(37, 37))


# train_transform

ALL_OFF = {
    "image_size": 64,
    "crop_scale": None,
    "flip_probability": 0.0,
    "trivial_augment": False,
    "erasing_probability": 0.0,
    "erasing_value": (124, 116, 104),
}
ON = {
    "crop_scale": (0.08, 1.0),
    "flip_probability": 1.0,
    "trivial_augment": True,
    "erasing_probability": 1.0,
}


@pytest.mark.parametrize("shape", [(80, 120), (73, 73), (20, 30)])
def test_train_transform_with_every_option_off_is_eval_transform(shape: tuple[int, int]) -> None:
    for seed in range(20):
        ours = imgproc.train_transform(photo(*shape), default_rng(seed), **ALL_OFF)
        assert np.array_equal(ours, imgproc.eval_transform(photo(*shape), 64))


@pytest.mark.parametrize("option", ON)
def test_each_option_alone_changes_the_image(option: str) -> None:
    image = noise(80, 120)
    plain = imgproc.eval_transform(image, 64)
    options = ALL_OFF | {option: ON[option]}
    outputs = [imgproc.train_transform(image, default_rng(seed), **options) for seed in range(50)]
    assert {(output.shape, output.dtype.name, output.flags.c_contiguous) for output in outputs} == {
        ((64, 64, 3), "uint8", True)
    }
    assert sum(not np.array_equal(output, plain) for output in outputs) >= 35


def global_random_states() -> tuple[object, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_same_generator_seed_gives_the_same_images() -> None:
    outputs, states = [], global_random_states()
    for _ in range(2):
        generator = default_rng(7)
        outputs.append([imgproc.train_transform(photo(80, 120), generator, **ALL_OFF | ON) for _ in range(30)])
    assert np.array_equal(*outputs)
    assert global_random_states() == states  # all randomness is the generator's


def test_generators_of_different_seeds_give_different_images() -> None:
    outputs = [imgproc.train_transform(photo(80, 120), default_rng(seed), **ALL_OFF | ON) for seed in range(20)]
    assert len({output.tobytes() for output in outputs}) == 20


def test_train_transform_leaves_its_input_alone() -> None:
    image = noise(73, 73)
    for seed in range(50):
        imgproc.train_transform(image, default_rng(seed), **ALL_OFF | ON | {"crop_scale": None})[:] = 0
    assert np.array_equal(image, noise(73, 73))


def test_flip_mirrors_left_and_right() -> None:
    flipped = imgproc.train_transform(photo(80, 120), default_rng(0), **ALL_OFF | {"flip_probability": 1.0})
    assert np.array_equal(flipped, np.fliplr(imgproc.eval_transform(photo(80, 120), 64)))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("option", ["flip_probability", "erasing_probability"])
def test_option_acts_on_its_share_of_the_images(option: str, probability: float) -> None:
    image, generator = noise(16, 16), default_rng(0)
    options = ALL_OFF | {"image_size": 16, option: probability}
    plain = imgproc.eval_transform(image, 16)
    changed = sum(not np.array_equal(imgproc.train_transform(image, generator, **options), plain) for _ in range(3000))
    assert_share(changed, 3000, probability)


def test_erasing_comes_last() -> None:
    """Else TrivialAugmentWide would change the value that was written."""
    value = np.array([12, 200, 33])
    for seed in range(100):
        output = imgproc.train_transform(
            smooth(80, 120), default_rng(seed), **ALL_OFF | ON | {"erasing_value": value.tolist()}
        )
        assert (output == value).all(axis=-1).mean() > 0.01


# Random resized crop

DRAWS = 20_000
RATIOS = (3 / 4, 4 / 3)


class CropRecorder:
    """Stands in for imgproc.resize and notes (top, left, height, width) of each crop of coordinates()."""

    def __init__(self) -> None:
        self.boxes: list[tuple[int, int, int, int]] = []

    def __call__(self, crop: np.ndarray, height: int, width: int) -> np.ndarray:
        self.boxes.append((int(crop[0, 0, 0]), int(crop[0, 0, 1]), *crop.shape[:2]))
        return np.zeros((height, width, 3), np.uint8)


def coordinates(height: int, width: int) -> np.ndarray:
    """Each pixel holds its row and column: sides up to 256. The third channel is noise."""
    image = noise(height, width)
    image[..., 0], image[..., 1] = np.mgrid[0:height, 0:width]
    return image


def crop_boxes(shape: tuple[int, int], scale: tuple[float, float], draws: int, patch: pytest.MonkeyPatch) -> np.ndarray:
    recorder = CropRecorder()
    patch.setattr(imgproc, "resize", recorder)
    image, generator = coordinates(*shape), default_rng(0)
    for _ in range(draws):
        imgproc.random_resized_crop(image, 32, scale, generator)
    return np.array(recorder.boxes)


def torchvision_crop_boxes(shape: tuple[int, int], scale: tuple[float, float], draws: int) -> np.ndarray:
    torch.manual_seed(0)
    image = torch.empty(3, *shape)
    return np.array([transforms.RandomResizedCrop.get_params(image, scale, RATIOS) for _ in range(draws)])


def assert_same_box_distribution(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Position, sides, area and aspect ratio."""
    for column in range(4):
        assert_same_distribution(ours[:, column], theirs[:, column])
    for combine in (np.multiply, np.divide):
        assert_same_distribution(combine(ours[:, 2], ours[:, 3]), combine(theirs[:, 2], theirs[:, 3]))


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.35, 0.5)])
@pytest.mark.parametrize("shape", [(200, 240), (224, 224), (250, 120)])
def test_crops_are_distributed_as_in_torchvision(
    shape: tuple[int, int], scale: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = crop_boxes(shape, scale, DRAWS, monkeypatch)
    assert_same_box_distribution(ours, torchvision_crop_boxes(shape, scale, DRAWS))


def test_crop_covers_its_share_with_its_aspect_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 3/4..4/3 on 0.2..0.4 of 250 x 250 always fits, so area share and log ratio are uniform."""
    boxes = crop_boxes((250, 250), (0.2, 0.4), DRAWS, monkeypatch).astype(float)
    shares = boxes[:, 2] * boxes[:, 3] / 250**2
    log_ratios = np.log(boxes[:, 3] / boxes[:, 2])
    quantiles = np.linspace(0, 1, 11)
    # 5 standard deviations of a decile of 20,000 draws are below 2 % of the range; then the rounding to pixels
    assert np.abs(np.quantile(shares, quantiles) - np.linspace(0.2, 0.4, 11)).max() < 0.02 * 0.2 + 0.004
    expected = np.linspace(math.log(3 / 4), math.log(4 / 3), 11)
    assert np.abs(np.quantile(log_ratios, quantiles) - expected).max() < 0.02 * 0.58 + 0.01


def assert_same_support(ours: np.ndarray, theirs: np.ndarray) -> None:
    """A box that one side draws 50 times is drawn by the other: the outermost positions are not left out."""
    counts = [Counter(map(tuple, boxes.tolist())) for boxes in (ours, theirs)]
    for mine, other in (counts, counts[::-1]):
        assert {box for box, count in mine.items() if count >= 50} <= other.keys()


def test_crops_of_a_small_image_are_those_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = crop_boxes((5, 6), (0.3, 0.6), DRAWS, monkeypatch)
    assert_same_support(ours, torchvision_crop_boxes((5, 6), (0.3, 0.6), DRAWS))


@pytest.mark.parametrize("scale", [(0.1, 0.15), (0.6, 0.65)])
def test_train_transform_crops_the_share_it_is_given(
    scale: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = CropRecorder()
    monkeypatch.setattr(imgproc, "resize", recorder)
    for seed in range(50):
        imgproc.train_transform(coordinates(200, 200), default_rng(seed), **ALL_OFF | {"crop_scale": scale})
    shares = [height * width / 200**2 for _, _, height, width in recorder.boxes]
    assert len(shares) == 50
    assert scale[0] - 0.005 < min(shares) and max(shares) < scale[1] + 0.005  # rounding to pixels


@pytest.mark.parametrize("shape", [(1, 250), (250, 1), (9, 250), (250, 9), (3, 100), (1, 1)])
def test_crop_of_a_shape_that_never_fits_is_the_central_one_of_torchvision(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = crop_boxes(shape, (0.9, 1.0), 50, monkeypatch)
    assert np.array_equal(ours, torchvision_crop_boxes(shape, (0.9, 1.0), 50))
    assert len(np.unique(ours, axis=0)) == 1


@pytest.mark.parametrize("shape", [(120, 160), (20, 15), (3, 250), (1, 1)])
def test_crop_is_resized_as_in_torchvision(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the 2 levels of the evaluation transform."""
    image = coordinates(*shape)
    boxes = crop_boxes(shape, (0.08, 1.0), 20, monkeypatch)
    monkeypatch.undo()
    generator = default_rng(0)
    for box in boxes.tolist():
        ours = imgproc.random_resized_crop(image, 48, (0.08, 1.0), generator)
        theirs = transforms.functional.resized_crop(Image.fromarray(image), *box, [48, 48])
        assert largest_difference(ours, theirs) <= 2


# Random erasing


def erased_box(output: np.ndarray) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the white box on black; the whole image where there is none, as torchvision."""
    white = output[..., 0] > 0
    if not white.any():
        return 0, 0, *white.shape
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert white.sum() == height * width
    return rows[0], columns[0], height, width


def erased_boxes(shape: tuple[int, int]) -> np.ndarray:
    black, generator = np.zeros((*shape, 3), np.uint8), default_rng(0)
    return np.array([erased_box(imgproc.random_erasing(black, (255, 255, 255), generator)) for _ in range(DRAWS)])


def torchvision_erased_boxes(shape: tuple[int, int]) -> np.ndarray:
    torch.manual_seed(0)
    image, options = torch.empty(3, *shape), {"scale": (0.02, 0.33), "ratio": (0.3, 3.3), "value": [0.0]}
    return np.array([transforms.RandomErasing.get_params(image, **options)[:4] for _ in range(DRAWS)])


@pytest.mark.parametrize("shape", [(100, 100), (60, 150), (150, 60), (20, 200)])
def test_erased_boxes_are_distributed_as_in_torchvision(shape: tuple[int, int]) -> None:
    assert_same_box_distribution(erased_boxes(shape), torchvision_erased_boxes(shape))


def test_erased_boxes_of_a_small_image_are_those_of_torchvision() -> None:
    """8 x 8: the smallest share, 2 %, is one pixel."""
    assert_same_support(erased_boxes((8, 8)), torchvision_erased_boxes((8, 8)))


def test_erasing_writes_its_value_and_nothing_else() -> None:
    image = smooth(40, 50)
    output = imgproc.random_erasing(image, (123.675, 116.28, 103.53), default_rng(0))
    top, left, height, width = erased_box((output != image).any(axis=-1, keepdims=True))
    assert (output[top : top + height, left : left + width] == (124, 116, 104)).all()
    assert np.array_equal(image, smooth(40, 50))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_image_too_thin_for_any_box_stays_as_it_is(shape: tuple[int, int]) -> None:
    generator = default_rng(0)
    for _ in range(50):
        assert np.array_equal(imgproc.random_erasing(noise(*shape), (0, 0, 0), generator), noise(*shape))


# TrivialAugmentWide

SPACE = TrivialAugmentWide()._augmentation_space(31)
BLENDS = ("Color", "Sharpness")  # computed in another order than Pillow's
IMAGES = {
    "noise 224 x 224": noise(224, 224),
    "smooth 187 x 140": smooth(187, 140),
    "photo 64 x 97": photo(64, 97),
    "constant": np.full((50, 60, 3), (200, 17, 90), np.uint8),
    "low contrast": 100 + noise(96, 96) // 16,
    "2 x 2": noise(2, 2),
    "1 x 5": noise(1, 5),
    "5 x 1": noise(5, 1),
    "3 x 3": noise(3, 3),
    "1 x 1": noise(1, 1),
}


def torchvision_magnitudes(name: str) -> list[float]:
    """All that can be drawn for an operation: of each bin, and of each sign."""
    bins, signed = SPACE[name]
    magnitudes = bins.tolist() if bins.ndim else [float(bins)]
    return magnitudes + [-magnitude for magnitude in magnitudes if signed]


def function_name(name: str) -> str:
    return {"AutoContrast": "autocontrast"}.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


@pytest.mark.parametrize("name", SPACE)
@pytest.mark.parametrize("image", IMAGES.values(), ids=list(IMAGES))
def test_operation_equals_torchvision_at_every_magnitude(image: np.ndarray, name: str) -> None:
    operation, picture, before = getattr(imgproc, function_name(name)), Image.fromarray(image), image.copy()
    different = pixels = 0
    for magnitude in torchvision_magnitudes(name):
        ours = operation(image, magnitude)
        theirs = _apply_op(picture, name, magnitude, transforms.InterpolationMode.NEAREST, fill=None)
        assert largest_difference(ours, theirs) <= (name in BLENDS), magnitude
        different += np.count_nonzero(ours != np.asarray(theirs))
        pixels += ours.size
    assert different <= 1e-3 * pixels
    assert np.array_equal(image, before)


def test_search_space_is_torchvisions() -> None:
    operations = [operation.__name__ for operation, _ in imgproc.OPERATIONS]
    assert operations == [function_name(name) for name in SPACE]
    for (_, (_, _, signed)), magnitudes, (bins, expected_signed) in zip(
        imgproc.OPERATIONS, imgproc.MAGNITUDES, SPACE.values(), strict=True
    ):
        assert signed == expected_signed
        assert len(magnitudes) == 31
        rounded = magnitudes if bins.is_floating_point() else [round(magnitude) for magnitude in magnitudes]
        assert rounded == bins.expand(31).tolist()


def record_draws(draws: int, patch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """(operation, signed magnitude) of each call of trivial_augment_wide."""
    recorded = []

    def recorder(name: str) -> Callable[[np.ndarray, float], np.ndarray]:
        return lambda image, magnitude: recorded.append((name, magnitude)) or image

    spies = tuple((recorder(operation.__name__), settings) for operation, settings in imgproc.OPERATIONS)
    patch.setattr(imgproc, "OPERATIONS", spies)
    generator, image = default_rng(0), noise(4, 4)
    for _ in range(draws):
        imgproc.trivial_augment_wide(image, generator)
    assert len(recorded) == draws
    return recorded


def test_operations_and_bins_are_drawn_uniformly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operation by operation, and each pair of operation and bin where bins differ."""
    draws = record_draws(30_000, monkeypatch)
    operations = Counter(name for name, _ in draws)
    assert len(operations) == 14
    assert_uniform(list(operations.values()))
    pairs = Counter((name, abs(magnitude)) for name, magnitude in draws)
    continuous = [count for (name, _), count in pairs.items() if len(set_of_magnitudes(name)) == 31]
    assert len(continuous) == 11 * 31
    assert_uniform(continuous)


def set_of_magnitudes(name: str) -> set[float]:
    index = [function_name(operation) for operation in SPACE].index(name)
    return set(imgproc.MAGNITUDES[index])


def test_half_of_the_signed_magnitudes_are_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each operation and of all together."""
    signs = {function_name(name): [] for name, (_, signed) in SPACE.items() if signed}
    assert len(signs) == 9
    for name, magnitude in record_draws(30_000, monkeypatch):
        if name in signs:
            signs[name].append(math.copysign(1, magnitude) < 0)
    together = [negative for drawn in signs.values() for negative in drawn]
    for negative in (*signs.values(), together):
        assert_share(sum(negative), len(negative), 0.5)


def test_unsigned_magnitudes_are_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned = {function_name(name) for name, (_, signed) in SPACE.items() if not signed}
    assert all(magnitude >= 0 for name, magnitude in record_draws(5_000, monkeypatch) if name in unsigned)


def test_trivial_augment_applies_what_it_draws() -> None:
    """Each output is the image under one of torchvision's operations."""
    image, generator = photo(20, 24), default_rng(0)
    possible = [
        np.asarray(_apply_op(Image.fromarray(image), name, magnitude, transforms.InterpolationMode.NEAREST, None))
        for name in SPACE
        for magnitude in torchvision_magnitudes(name)
    ]
    for _ in range(50):
        output = imgproc.trivial_augment_wide(image, generator)
        assert min(largest_difference(output, other) for other in possible) <= 1


# normalize and denormalize

STATISTICS = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "halves": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def all_levels() -> np.ndarray:
    """Two images that hold each of the 256 levels in each channel, at different places: [2, 16, 16, 3]."""
    generator = default_rng(0)
    levels = [generator.permuted(np.arange(256, dtype=np.uint8)) for _ in range(6)]
    return np.stack(levels).reshape(2, 3, 16, 16).transpose(0, 2, 3, 1).copy()


@pytest.fixture(params=STATISTICS)
def statistics(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel."""
    mean, std = STATISTICS[request.param]
    return torch.tensor(mean), torch.tensor(std)


def test_normalize_equals_torchvision(statistics: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*(s.tolist() for s in statistics))])
    theirs = torch.stack([reference(Image.fromarray(image)) for image in all_levels()])
    ours = imgproc.normalize(torch.from_numpy(all_levels()).permute(0, 3, 1, 2), *statistics)
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().max() <= 1e-6


def test_normalize_has_the_same_bits_in_both_memory_formats(statistics: tuple[torch.Tensor, torch.Tensor]) -> None:
    images = torch.from_numpy(all_levels()).permute(0, 3, 1, 2)
    assert torch.equal(imgproc.normalize(images, *statistics), imgproc.normalize(images.contiguous(), *statistics))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_normalize_keeps_the_memory_format_and_its_input(memory_format: torch.memory_format) -> None:
    images = torch.from_numpy(all_levels()).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    before = images.clone()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert imgproc.normalize(images, mean, std).is_contiguous(memory_format=memory_format)
    assert torch.equal(images, before)
    assert torch.equal(mean, torch.tensor([0.485, 0.456, 0.406]))


def test_denormalize_gives_back_all_256_levels(statistics: tuple[torch.Tensor, torch.Tensor]) -> None:
    images = torch.from_numpy(all_levels()).permute(0, 3, 1, 2)
    restored = imgproc.denormalize(imgproc.normalize(images, *statistics), *statistics)
    assert restored.dtype == torch.uint8
    assert torch.equal(restored, images)


@pytest.mark.parametrize(("share", "level"), [(-0.3, 0), (0.0, 0), (0.4999 / 255, 0), (0.5001 / 255, 1), (1.7, 255)])
def test_denormalize_rounds_and_clips(share: float, level: int, statistics: tuple[torch.Tensor, torch.Tensor]) -> None:
    mean, std = statistics
    images = ((share - mean) / std).reshape(1, 3, 1, 1)
    assert imgproc.denormalize(images, mean, std).flatten().tolist() == [level] * 3
