#!/usr/bin/env bash
# Pillow reads a 16-bit colour TIFF whose planes are stored one after the other as if each byte were a pixel.
#
# Expected: the picture that the same file gives with its colours pixel by pixel (8 bits of each level), or a refusal.
# Seen with Pillow 13.0.0: the low and the high byte of a level become two pixels beside each other, and the lower half
# of the picture is never read. With levels of 8 bits, planes are right; so are levels of 16 bits pixel by pixel.
# Why it matters: the size and the mode are right, and no error or warning tells of a picture of noise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import io
import struct

import numpy as np
import PIL
from PIL import Image

HEIGHT, WIDTH = 4, 6
picture = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3))


def tiff(levels: np.ndarray, bits: int, planes: bool) -> bytes:
    """An uncompressed little-endian RGB TIFF of one strip, or of one strip a plane."""
    pixels = levels.astype("<u2" if bits == 16 else "u1")
    strips = [np.ascontiguousarray(pixels[..., k]).tobytes() for k in range(3)] if planes else [pixels.tobytes()]
    size, data = len(strips[0]), b"".join(strips)
    behind = 8 + len(data)  # three arrays of three numbers, and then the directory
    offsets = [8 + k * size for k in range(3)]
    arrays = struct.pack("<3H3I3I", bits, bits, bits, *offsets, size, size, size)
    entries = [(256, 3, 1, WIDTH), (257, 3, 1, HEIGHT), (258, 3, 3, behind), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 3, behind + 6) if planes else (273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, HEIGHT)]
    entries += [(279, 4, 3, behind + 18) if planes else (279, 4, 1, size), (284, 3, 1, 2 if planes else 1)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start = struct.pack("<2sHI", b"II", 42, behind + len(arrays))
    return start + data + arrays + struct.pack("<H", len(entries)) + directory + bytes(4)


def read(levels: np.ndarray, bits: int, planes: bool) -> np.ndarray:
    """The picture as Pillow reads it."""
    return np.asarray(Image.open(io.BytesIO(tiff(levels, bits, planes))))


high = picture >> 8
right = {(bits, planes): bool((read(picture if bits == 16 else high, bits, planes) == high).all())
         for bits in (8, 16) for planes in (False, True)}  # fmt: skip
seen = read(picture, 16, True)
print(f"Pillow {PIL.__version__}, right for (bits, planes): {right}")
print(f"red of the first levels: {[hex(level) for level in picture[0, :3, 0]]}, read as {seen[0, :6, 0].tolist()}")
assert right == {(8, False): True, (8, True): True, (16, False): True, (16, True): False}, "the behaviour has changed"
halves = picture[: HEIGHT // 2, :, 0].astype("<u2").tobytes()
assert seen[..., 0].tobytes() == halves, "the behaviour has changed"
PYTHON
