#!/usr/bin/env bash
# Pillow gives an all-black picture for a palette TIFF whose colour map has levels of 8 bits; libtiff's users get it right.
#
# Expected: the colours. The format asks for levels of 16 bits, but many old writers stored 8, and libtiff's own readers,
# so also OpenCV ("Assuming 8-bit colormap"), look which of the two it is.
# Seen with Pillow 13.0.0, opencv-python-headless 5.0.0.93, files by tifffile 2026.3.3: no error and no warning.
# Why it matters: maps and scans of the nineties become black pictures with a label.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pillow==13.0.0 opencv-python-headless==5.0.0.93 tifffile==2026.3.3 numpy==2.4.6
PYTHONPATH="$folder" OPENCV_LOG_LEVEL=SILENT python3 -W error - <<'PYTHON'
import io

import cv2
import numpy as np
import PIL
import tifffile
from PIL import Image

indices = np.arange(256, dtype=np.uint8).reshape(16, 16)


def brightest(white: int) -> tuple[int, int]:
    """Of the picture of a grey ramp, by Pillow and by OpenCV; `white`: the highest level in the colour map."""
    ramp = np.linspace(0, white, 256).round().astype(np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, indices, photometric="palette", colormap=np.stack([ramp] * 3))
    by_pillow = np.asarray(Image.open(file).convert("RGB"))
    by_opencv = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB)
    return int(by_pillow.max()), int(by_opencv.max())


seen = {"levels of 16 bits": brightest(65535), "levels of 8 bits": brightest(255)}
print(f"Pillow {PIL.__version__}, OpenCV {cv2.__version__}, brightest level: {seen}")
assert seen == {"levels of 16 bits": (255, 255), "levels of 8 bits": (0, 255)}, "the behaviour has changed"
PYTHON
