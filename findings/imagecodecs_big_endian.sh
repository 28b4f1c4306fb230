#!/bin/bash
# imagecodecs writes an array of big-endian numbers as JPEG 2000 or TIFF with the two bytes of each number exchanged.
#
# Expected: the numbers of the array, in whatever order the file has its bytes, or an error: PNG, JPEG XL, JPEG LS and
# LERC of the same package raise ValueError.
# Seen with imagecodecs 2026.3.6 on a little-endian machine: jpeg2k_encode(), htj2k_encode() and tiff_encode() take the
# bytes as if they were little-endian. 100, 137 and 174 become 25600, 35072 and 44544. Lossless JPEG 2000 keeps those
# exactly, and says nothing.
# Why it matters: 16-bit pictures from raw files, FITS, DICOM and np.fromfile(path, ">u2") are big-endian arrays, which
# NumPy, Matplotlib and Pillow treat as any other. Their levels become noise, and the files are well formed.
# Without it: array.astype(array.dtype.newbyteorder("=")).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    imagecodecs==2026.3.6 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import sys

import imagecodecs
import numpy as np

assert sys.byteorder == "little", "this machine is big-endian"
rows, columns = np.mgrid[0:16, 0:24]
native = (100 + rows * 50 + columns * 37).astype(np.uint16)
big = native.astype(">u2")
assert np.array_equal(native, big)
print(f"imagecodecs {imagecodecs.__version__}, the first levels: {big[0, :3].tolist()}")
for name, options, swaps in (
    ("jpeg2k", {"level": 0}, True),
    ("htj2k", {}, True),
    ("tiff", {}, True),
    ("png", {}, False),
    ("jpegxl", {"lossless": True}, False),
    ("jpegls", {}, False),
    ("lerc", {}, False),
):
    encode, decode = getattr(imagecodecs, f"{name}_encode"), getattr(imagecodecs, f"{name}_decode")
    assert np.array_equal(decode(encode(native, **options)), native), "the behaviour has changed"
    try:
        read = decode(encode(big, **options))
    except ValueError as error:
        print(f"{name}: ValueError: {error}")
        assert not swaps, "the behaviour has changed"
        continue
    print(f"{name}: {read[0, :3].tolist()}")
    assert swaps and np.array_equal(read, native.byteswap()), "the behaviour has changed"
PYTHON
