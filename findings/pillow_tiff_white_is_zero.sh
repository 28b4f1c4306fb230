#!/usr/bin/env bash
# Pillow inverts a grey TIFF in which 0 is white if it has 8 bits, and gives the negative if it has 16.
#
# Expected: both are shown right; or 16 bits are refused, as Pillow does when the bytes come in the other order.
# Seen with Pillow 13.0.0 on files by tifffile 2026.3.3, a ramp that begins with white: 8 bits begin with 255, 16 bits in
# little-endian order with 0, in big-endian order UnidentifiedImageError.
# Why it matters: radiographs and scans of documents are often stored so; negatives among positives spoil a class.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import io

import numpy as np
import PIL
import tifffile
from PIL import Image


def first_level(bits: int, order: str) -> int | str:
    """Of a picture that begins with white, stored as 0."""
    levels = np.linspace(0, 2**bits - 1, 256).astype(np.uint16 if bits == 16 else np.uint8).reshape(16, 16)
    file = io.BytesIO()
    tifffile.imwrite(file, levels, photometric="miniswhite", byteorder=order)
    try:
        return int(np.asarray(Image.open(file)).flat[0])
    except PIL.UnidentifiedImageError:
        return "refused"


seen = {f"{bits} bits, {order}": first_level(bits, order) for bits in (8, 16) for order in "<>"}
print(f"Pillow {PIL.__version__}, the level of white: {seen}")
assert list(seen.values()) == [255, 255, 0, "refused"], "the behaviour has changed"
PYTHON
