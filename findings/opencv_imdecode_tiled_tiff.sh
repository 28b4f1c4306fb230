#!/usr/bin/env bash
# OpenCV's imdecode() refuses sound TIFFs that its imread() reads: uncompressed tiles of no multiple of 1,024 bytes.
#
# Expected: the same answer of both for the same bytes.
# Seen with opencv-python-headless 5.0.0.93 on files by tifffile 2026.3.3: with tiles of 16 x 16 grey (256 bytes) and
# 240 x 240 RGB imread() gives the right pixels and imdecode() None; with tiles of 32 x 32 grey (1,024 bytes), or with
# LZW, both are right.
# Why it matters: a program that decodes from memory, as those do that read archives, calls sound files damaged.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    opencv-python-headless==5.0.0.93 tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" OPENCV_LOG_LEVEL=SILENT python3 - <<'PYTHON'
import cv2
import numpy as np
import tifffile


def reads(shape: tuple[int, ...], side: int, compression: str | None) -> tuple[bool, bool]:
    """Whether imread() and imdecode() give the pixels that were written."""
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    tifffile.imwrite("tiles.tif", picture, tile=(side, side), compression=compression, photometric=photometric)
    data = np.fromfile("tiles.tif", np.uint8)
    flag = cv2.IMREAD_COLOR_RGB if len(shape) == 3 else cv2.IMREAD_GRAYSCALE
    both = cv2.imread("tiles.tif", flag), cv2.imdecode(data, flag)
    return tuple(image is not None and np.array_equal(image, picture) for image in both)


seen = {
    "16 x 16 grey": reads((16, 16), 16, None),
    "240 x 240 RGB": reads((240, 240, 3), 240, None),
    "32 x 32 grey": reads((32, 32), 32, None),
    "240 x 240 RGB, LZW": reads((240, 240, 3), 240, "lzw"),
}
print(f"OpenCV {cv2.__version__}, (imread, imdecode) by the size of a tile: {seen}")
assert list(seen.values()) == [(True, False), (True, False), (True, True), (True, True)], "the behaviour has changed"
PYTHON
