#!/bin/bash
# image-similarity-measures gives an angle of 90 degrees between an 8-bit picture and itself.
#
# Expected: the spectral angle (SAM) of two equal pictures is 0, and that of two others does not depend on the type of
# their numbers.
# Seen with image-similarity-measures 0.3.6: sam() multiplies in the type of the pictures, so that products of uint8 are
# taken modulo 256, and divides by norms that are right. A picture with itself gives 89.7 degrees instead of 0, and two
# pictures of other colours 89.6 instead of 67.9. evaluation(), which the command line calls, reads 8-bit
# pictures as uint8, so that all its answers for PNG and JPEG are of that kind. Nothing is said. The other measures
# convert to float, and so do float pictures here.
# Why it matters: SAM is used to tell which network for super-resolution or sharpening keeps the colours; its ranking is
# noise for usual pictures.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    image-similarity-measures==0.3.6 scikit-image==0.20.0 scipy==1.15.3 numpy==1.26.4 opencv-python==4.11.0.86
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import math
import sys

import cv2
import numpy as np
from image_similarity_measures.evaluate import evaluation
from image_similarity_measures.quality_metrics import sam

names = ("image-similarity-measures", "numpy")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
first, second = (200, 100, 50), (10, 60, 200)


def angle(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """In degrees."""
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return math.degrees(math.acos(min(1.0, product / math.hypot(*a) / math.hypot(*b))))


for name, colours, seen in (("equal", (first, first), 89.7), ("different", (first, second), 89.6)):
    pictures = [np.full((8, 8, 3), colour, np.uint8) for colour in colours]
    paths = [f"{sys.argv[1]}/{i}.png" for i in range(2)]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(path, picture)
    right = angle(*colours)
    found = float(sam(*pictures))
    floats = float(sam(*[picture.astype(np.float64) for picture in pictures]))
    files = evaluation(*paths, ["sam"])["sam"]
    print(f"{name}: uint8 {found:.2f}, PNG files {files:.2f}, float {floats:.2f}, right is {right:.2f} degrees")
    assert abs(found - seen) < 0.05 and abs(files - seen) < 0.05, "the behaviour has changed"
    assert abs(floats - right) < 1e-3, "the control has changed"
PYTHON
