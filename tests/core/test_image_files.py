# SPDX-License-Identifier: Apache-2.0
"""Decoding against Pillow; orientation; what is refused."""

import io
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.random import default_rng
from pictures import (
    GREY,
    KINDS,
    OTHER_JPEGS,
    PIXELS,
    PIXELS_16,
    animation,
    as_bytes,
    bmp,
    chunk,
    decoded,
    gif,
    largest_difference,
    noise,
    palette_image,
    photo,
    png,
    saved,
    smooth,
    tiff,
    with_compression,
)
from PIL import Image, ImageOps

from core import image_files, image_names, pixels

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
        "import resource, sys\nfrom core import image_files\n"
        "assert not {'PIL', 'pillow_heif'} & sys.modules.keys()\n"  # they are loaded when a file needs them
        "import PIL.AvifImagePlugin, PIL.TiffImagePlugin, pillow_heif\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before, refused = peak(), 0\n"
        "for path in sys.argv[1:]:\n"
        "    try: image_files.load_image(path)\n"
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
