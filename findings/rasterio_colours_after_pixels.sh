#!/bin/bash
# rasterio writes a TIFF without colours, for all other programs, if the colours come after the pixels.
#
# Expected: write(pixels) and write_colormap(), in the order of the example in rasterio's documentation, give a palette
# TIFF, as the other order does, and as both do for PNG.
# Seen with rasterio 1.4.4: the file gets the tag with the colours, but is marked as a grey picture (Photometric 1)
# instead of a palette (3). Pillow and OpenCV show the class numbers as almost black grey levels. Nothing is said, and
# rasterio itself reads the colours from the file. With write_colormap() first, or photometric="palette" in the profile,
# the mark is right.
# Why it matters: masks with colours are made to be looked at and to be read by other programs. Who reads the mask as
# colours, as for Pascal VOC, finds none of the classes, and in a viewer the mask is black.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    rasterio==1.4.4 numpy==2.4.6 Pillow==13.0.0 tifffile==2026.3.3 opencv-python-headless==5.0.0.93 \
    affine==3.0.1 attrs==26.1.0 certifi==2026.10.19.post1 click==8.5.1 cligj==0.7.2 click-plugins==1.1.1.2 \
    pyparsing==3.3.3
PYTHONPATH="$folder/packages" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys
import warnings

import cv2
import numpy as np
import rasterio
import tifffile
from PIL import Image

folder = sys.argv[1]
mask = np.zeros((40, 40), np.uint8)
mask[5:20, 5:20] = 3
colours = {0: (0, 0, 0, 255), 3: (255, 0, 0, 255)}  # class 3 is red


def written(driver: str, steps: str, **more) -> str:
    """The path of the mask, written with pixels (p) and colours (c) in the order of the steps."""
    path = f"{folder}/{steps}{len(more)}.{'tif' if driver == 'GTiff' else 'png'}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, height=40, width=40, count=1, dtype="uint8", **more) as file:
            for step in steps:
                if step == "p":
                    file.write(mask, indexes=1)
                else:
                    file.write_colormap(1, colours)
        with rasterio.open(path) as file:
            assert np.array_equal(file.read(1), mask) and file.colormap(1)[3] == colours[3]
    return path


print(f"rasterio {importlib.metadata.version('rasterio')}, a mask whose class 3 is red")
for driver, steps, more in (
    ("GTiff", "cp", {}), ("GTiff", "pc", {}), ("GTiff", "pc", {"photometric": "palette"}), ("PNG", "cp", {}),
    ("PNG", "pc", {}),
):
    path = written(driver, steps, **more)
    with Image.open(path) as image:
        mode, pillow = image.mode, image.convert("RGBA").getpixel((10, 10))[:3]
    opencv = tuple(cv2.imread(path)[10, 10, ::-1].tolist())
    order = "colours, then pixels" if steps == "cp" else "pixels, then colours"
    print(f"{driver}, {order} {more or ''}: Pillow {mode} {pillow}, OpenCV {opencv}")
    if driver == "GTiff":
        with tifffile.TiffFile(path) as file:
            mark, has_colours = int(file.pages[0].photometric), "ColorMap" in file.pages[0].tags
        print(f"  Photometric {mark}, colours in the file: {has_colours}")
        assert has_colours
    if driver == "GTiff" and steps == "pc" and not more:
        assert (mark, mode, pillow, opencv) == (1, "L", (3, 3, 3), (3, 3, 3)), "the behaviour has changed"
    else:
        assert mode == "P" and pillow == opencv == (255, 0, 0)
PYTHON
