# SPDX-License-Identifier: Apache-2.0
"""Pictures of every kind, and what several tests say of them."""

import base64
import io
import struct
import zlib

import imagecodecs
import numpy as np
import pillow_heif
import tifffile
from numpy.random import default_rng
from PIL import Image

from core import image_files

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


def as_bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


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


def decoded(data: bytes) -> np.ndarray:
    return image_files.decode_image(as_bytes(data), "image")
