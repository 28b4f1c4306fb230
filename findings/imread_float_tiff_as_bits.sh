#!/bin/bash
# imread gives the bits of a TIFF with floating numbers as whole numbers.
#
# Expected: imread() of a float32 TIFF gives float32, or refuses the file, as imsave() refuses to write one; and numbers
# below 0 of an int16 TIFF are below 0.
# Seen with imread 0.7.6: a float32 TIFF comes as uint32: 1.0 is 1065353216, and 0.5 is 1056964608; an int16 TIFF as
# uint16, -1 as 65535. Only the number of bits is looked at, not what TIFF says of the numbers (SampleFormat). Nothing
# is said. tifffile, Pillow and OpenCV read float32 as it is.
# Why it matters: depth maps, elevations, probabilities and microscope pictures are float32 TIFFs. The order of numbers
# above 0 stays, so that a picture that is scaled to its range looks plausible; all sums and differences are wrong.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    imread==0.7.6 numpy==2.4.6 tifffile==2026.3.3 Pillow==13.0.0 opencv-python-headless==5.0.0.93
PYTHONPATH="$folder/packages" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

import cv2
import imread
import numpy as np
import tifffile
from PIL import Image

path = f"{sys.argv[1]}/picture.tif"
print(f"imread {importlib.metadata.version('imread')}")
numbers = np.array([[0, 0.5, 1, 2], [3, 4, 8, -1]])
for kind, seen in (("float32", "uint32"), ("int16", "uint16"), ("uint8", "uint8"), ("uint16", "uint16")):
    picture = (np.abs(numbers) if kind.startswith("u") else numbers).astype(kind)
    tifffile.imwrite(path, picture, photometric="minisblack")
    assert np.array_equal(tifffile.imread(path), picture) and tifffile.imread(path).dtype == kind
    if kind == "float32":
        assert np.array_equal(cv2.imread(path, cv2.IMREAD_UNCHANGED), picture)
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), picture)
    read = imread.imread(path)
    print(f"{kind} {picture.ravel().tolist()}: {read.dtype} {read.ravel().tolist()}")
    assert read.dtype == seen, "the behaviour has changed"
    assert np.array_equal(read, picture.view(seen)), "the behaviour has changed"
try:
    imread.imsave(path, numbers.astype("float32"))
    refused = False
except TypeError:
    refused = True
assert refused
PYTHON
