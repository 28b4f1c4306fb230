#!/usr/bin/env bash
# OpenCV's IMREAD_COLOR_RGB gives blue and red exchanged for AVIF with transparency, and for PAM.
#
# Expected: RGB, as for every other format, and as for an AVIF without transparency.
# Seen with opencv-python-headless 5.0.0.93 on files by Pillow 13.0.0 and by OpenCV itself: a red picture (250, 20, 10)
# comes out as (10, 20, 250).
# Why it matters: cut-out product photos are AVIF with transparency; one folder then holds both orders of channels.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import io

import cv2
import numpy as np
from PIL import Image

RED = np.array([250, 20, 10])


def order(data: np.ndarray) -> str:
    pixel = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)[32, 32].astype(int)
    return "RGB" if abs(pixel - RED).max() <= 3 else "BGR" if abs(pixel[::-1] - RED).max() <= 3 else "neither"


def by_pillow(kind: str, alpha: int | None) -> np.ndarray:
    file = io.BytesIO()
    mode, colour = ("RGB", tuple(RED)) if alpha is None else ("RGBA", (*RED, alpha))
    Image.new(mode, (64, 64), colour).save(file, kind)
    return np.frombuffer(file.getvalue(), np.uint8)


picture = np.tile(RED[::-1].astype(np.uint8), (64, 64, 1))  # OpenCV writes BGR
seen = {
    "PNG with alpha": order(by_pillow("PNG", 128)),
    "WebP with alpha": order(by_pillow("WEBP", 128)),
    "AVIF": order(by_pillow("AVIF", None)),
    "AVIF with alpha": order(by_pillow("AVIF", 128)),
    "PPM": order(cv2.imencode(".ppm", picture)[1]),
    "PAM": order(cv2.imencode(".pam", picture)[1]),
}
print(f"OpenCV {cv2.__version__}, IMREAD_COLOR_RGB: {seen}")
wrong = {kind for kind, found in seen.items() if found != "RGB"}
assert wrong == {"AVIF with alpha", "PAM"}, "the behaviour has changed"
PYTHON
