#!/usr/bin/env bash
# OpenCV gives an all-black picture, and no error, for a sound TIFF whose compression its libtiff cannot undo.
#
# Expected: None from imdecode(), as for every other file that it cannot read.
# Seen with opencv-python-headless 5.0.0.93 on files by tifffile 2026.3.3 and imagecodecs 2026.3.6, 32 x 32, RGB, every
# level 200 or above: JPEG 2000, JPEG XL and PNG within TIFF come out as arrays of zeros, LERC and WebP are refused,
# deflate and LZW come out right.
# Why it matters: a data set of scanned slides or satellite tiles trains to chance, on black pictures.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    opencv-python-headless==5.0.0.93 tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6
PYTHONPATH="$folder" OPENCV_LOG_LEVEL=SILENT python3 - <<'PYTHON'
import io

import cv2
import numpy as np
import tifffile

picture = np.random.default_rng(0).integers(200, 256, (32, 32, 3), dtype=np.uint8)


def outcome(compression: str) -> str:
    file = io.BytesIO()
    tifffile.imwrite(file, picture, compression=compression, photometric="rgb")
    file.seek(0)
    assert np.array_equal(tifffile.imread(file), picture)  # the file is sound, and lossless
    read = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB)
    if read is None:
        return "refused"
    return "right" if np.array_equal(read, picture) else "black" if not read.any() else "wrong"


seen = {kind: outcome(kind) for kind in ("adobe_deflate", "lzw", "jpeg2000", "jpegxl", "lerc", "png", "webp")}
print(f"OpenCV {cv2.__version__}: {seen}")
assert seen["adobe_deflate"] == seen["lzw"] == "right", seen
assert seen["jpeg2000"] == seen["jpegxl"] == seen["png"] == "black", "the behaviour has changed"
PYTHON
