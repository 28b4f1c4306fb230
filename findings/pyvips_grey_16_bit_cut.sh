#!/bin/bash
# pyvips writes a grey picture of 16 bits from numpy as a PNG of 8 bits, in which all from 255 on is 255.
#
# Expected: new_from_array() of a uint16 array and write_to_file("depth.png") give a PNG of 16 bits with these numbers:
# PNG has 16 bits, the image says that its numbers are ushort, and the same array with three channels, or as TIFF, is
# written with all its bits.
# Seen with pyvips 3.2.0 and libvips 8.18.7: an array of one channel is taken for a black and white picture, for which
# PNG gets 8 bits, and numbers above 255 become 255: 700 and 60000 are the same. With bitdepth=16 the file has 16 bits,
# but 1 is 257, and all from 255 on is 65535. Nothing is said. interpretation="grey16" or "auto" gives a right file.
# Why it matters: 16-bit PNG is the usual format of depth maps, X-rays, and masks with more than 255 objects. The masks
# lose all objects but the first 254, and a depth map in millimetres is white behind the first 25 centimetres.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    pyvips==3.2.0 pyvips-binary==8.18.7 cffi==2.1.1 pycparser==3.12 numpy==2.4.6 Pillow==13.0.0
PYTHONPATH="$folder/packages" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import pyvips
from PIL import Image

folder = sys.argv[1]
grey = np.array([[1, 254, 255, 256, 700, 60000]], np.uint16)
colour = np.stack([grey, grey, grey], axis=-1)
cut = np.minimum(grey, 255)
print(f"pyvips {importlib.metadata.version('pyvips')}, libvips {'.'.join(str(pyvips.version(i)) for i in range(3))}")
print(f"numbers {grey.ravel().tolist()}")


def written(name: str, array: np.ndarray, ending: str, interpretation: str | None = None, **more) -> np.ndarray:
    """The numbers in the file of an array."""
    image = pyvips.Image.new_from_array(array, interpretation=interpretation)
    assert image.format == "ushort" and np.array_equal(image.numpy(), array)  # all of it is still there
    path = f"{folder}/{name}.{ending}"
    image.write_to_file(path, **more)
    read = pyvips.Image.new_from_file(path).numpy()
    if array.ndim == 2:
        with Image.open(path) as file:
            assert np.array_equal(np.asarray(file), read)
    print(f"{name}.{ending}: {read.dtype} {(read if read.ndim == 2 else read[..., 0]).ravel().tolist()}")
    return read


for name, array, ending, interpretation in (
    ("colour", colour, "png", None), ("grey", grey, "tif", None), ("as_grey16", grey, "png", "grey16"),
    ("as_auto", grey, "png", "auto"),
):
    read = written(name, array, ending, interpretation)
    assert read.dtype == np.uint16 and np.array_equal(read, array)
read = written("grey", grey, "png")
assert read.dtype == np.uint8 and np.array_equal(read, cut), "the behaviour has changed"
read = written("sixteen_bits", grey, "png", bitdepth=16)
assert read.dtype == np.uint16 and np.array_equal(read, cut * 257), "the behaviour has changed"
PYTHON
