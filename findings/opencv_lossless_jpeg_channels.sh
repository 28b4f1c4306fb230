#!/usr/bin/env bash
# OpenCV reads a lossless JPEG only with the number of channels that it has: grey not as colour, colour not as grey.
#
# Expected: the usual conversion, as for every other JPEG; or a refusal of lossless JPEG altogether.
# Seen with opencv-python-headless 5.0.0.93 on files by imagecodecs 2026.3.6: imdecode() gives None.
# Why it matters: None reads as "damaged"; the files are sound, and medical archives are full of grey lossless JPEGs.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    opencv-python-headless==5.0.0.93 imagecodecs==2026.3.6 numpy==2.4.6
PYTHONPATH="$folder" OPENCV_LOG_LEVEL=SILENT python3 - <<'PYTHON'
import cv2
import imagecodecs
import numpy as np

generator = np.random.default_rng(0)
grey = generator.integers(0, 256, (16, 16), dtype=np.uint8)
colour = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)


def reads(picture: np.ndarray, lossless: bool) -> tuple[bool, bool]:
    """Whether it comes out as grey, and as colour."""
    data = np.frombuffer(imagecodecs.jpeg_encode(picture, lossless=lossless), np.uint8)
    return tuple(cv2.imdecode(data, flag) is not None for flag in (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR))


seen = {
    f"{name}{', lossless' if lossless else ''}": reads(picture, lossless)
    for lossless in (False, True)
    for name, picture in (("grey", grey), ("colour", colour))
}
print(f"OpenCV {cv2.__version__}, (as grey, as colour): {seen}")
assert list(seen.values()) == [(True, True), (True, True), (True, False), (False, True)], "the behaviour has changed"
PYTHON
