#!/bin/bash
# SimpleITK marks the colours of a TIFF with transparency as multiplied by it, which they are not.
#
# Expected: a picture with red, green, blue and opacity is written to TIFF as to PNG: other programs read from both
# files the colours that were there. TIFF has two marks for this: ExtraSamples 2 for colours as they are
# ("unassociated"), and 1 for colours that are multiplied by the opacity ("associated").
# Seen with SimpleITK 2.5.7: the file holds the colours as they are, and the mark 1. Programs that go by the mark divide
# the colours by the opacity: Pillow turns (200, 100, 50) with half opacity into (255, 199, 99), and makes transparent
# pixels black. Nothing is said. The other way round, ReadImage() gives the colours of a file with mark 2 as they are if
# it is in strips, and multiplied if it is in tiles.
# Why it matters: the fourth channel is often no opacity for the eye but a mask, a near infrared band or a valid area;
# the colours under it are training data. Here they are brightened, cut off at 255, or gone, in whoever reads the file.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    SimpleITK==2.5.7 numpy==2.4.6 Pillow==13.0.0 tifffile==2026.3.3
PYTHONPATH="$folder/packages" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import SimpleITK
import tifffile
from PIL import Image

folder = sys.argv[1]
picture = np.full((16, 16, 4), (200, 100, 50, 128), np.uint8)
picture[8:, :8] = 10, 20, 30, 64
picture[:8, 8:] = 255, 255, 255, 0
picture[8:, 8:] = 1, 2, 3, 255
places = [(0, 0), (8, 0), (0, 8), (8, 8)]


def colours(image: np.ndarray) -> list[tuple[int, ...]]:
    """The colour and opacity of the four squares."""
    assert image.shape == picture.shape and image.dtype == np.uint8
    return [tuple(image[place].tolist()) for place in places]


print(f"SimpleITK {importlib.metadata.version('SimpleITK')}, picture {colours(picture)}")
for ending in ("png", "tif"):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(picture, isVector=True), f"{folder}/picture.{ending}")
with tifffile.TiffFile(f"{folder}/picture.tif") as file:
    raw, mark = file.pages[0].asarray(), [int(each) for each in file.pages[0].extrasamples]
with Image.open(f"{folder}/picture.png") as png, Image.open(f"{folder}/picture.tif") as tif:
    assert png.mode == tif.mode == "RGBA"
    png, tif = np.asarray(png), np.asarray(tif)
print(f"written to TIFF with the mark {mark}, numbers in the file {colours(raw)}")
print(f"Pillow reads PNG  {colours(png)}\nPillow reads TIFF {colours(tif)}")
assert np.array_equal(png, picture)
assert np.array_equal(raw, picture) and mark == [1], "the behaviour has changed"
assert colours(tif) == [(255, 199, 99, 128), (39, 79, 119, 64), (0, 0, 0, 0), (1, 2, 3, 255)]

for name, layout in (("strips", {}), ("tiles", {"tile": (16, 16)})):
    path = f"{folder}/{name}.tif"
    tifffile.imwrite(path, picture, photometric="rgb", extrasamples=["unassalpha"], **layout)
    with Image.open(path) as image:
        assert image.mode == "RGBA" and np.array_equal(np.asarray(image), picture)
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
    print(f"a file with the mark 2 in {name}: {colours(read)}")
    if name == "strips":
        assert np.array_equal(read, picture)
    else:
        seen = [(100, 50, 25, 128), (3, 5, 8, 64), (0, 0, 0, 0), (1, 2, 3, 255)]
        assert colours(read) == seen, "the behaviour has changed"
PYTHON
