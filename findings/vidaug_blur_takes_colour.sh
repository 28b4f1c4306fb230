#!/bin/bash
# vidaug's GaussianBlur takes the colours out of frames that are arrays: it blurs across the channels, too.
#
# Expected: each channel is blurred by itself, as the same transform does it with Pillow's pictures. A frame of one
# colour stays as it is, since there is nothing in it to blur.
# Seen with vidaug 1.5: the array is given to SciPy as one of three dimensions, so that red, green and blue are
# averaged with the weights of the blur. A frame that is red, (250, 0, 0), becomes (97, 83, 69) with sigma=2, which is
# nearly grey. Pillow's pictures keep their colour.
# Why it matters: the frames are hardly coloured any more, and differ from what the same settings do with Pillow's
# pictures. Arrays are what OpenCV and most readers of videos give.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    vidaug==1.5 scikit-image==0.26.0 opencv-python-headless==5.0.0.93 scipy==1.17.1 pillow==12.3.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from PIL import Image, ImageFilter  # the package uses PIL.ImageFilter without importing it
from scipy import ndimage
from vidaug import augmentors

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("vidaug", "scipy", "pillow", "numpy")))
for colour in ((250, 0, 0), (20, 200, 40)):
    frame = np.full((24, 32, 3), colour, np.uint8)
    for sigma in (1, 2, 5):
        (array,) = augmentors.GaussianBlur(sigma)([frame])
        (picture,) = augmentors.GaussianBlur(sigma)([Image.fromarray(frame)])
        right = np.stack([ndimage.gaussian_filter(frame[..., channel], sigma) for channel in range(3)], -1)
        assert (right == frame).all() and (np.asarray(picture) == frame).all()  # one colour stays as it is
        seen = array[12, 16].tolist()
        print(f"{colour}, sigma {sigma}: {seen} as an array, {picture.getpixel((16, 12))} as a picture")
        assert (array == array[0, 0]).all()
        assert max(seen) - min(seen) < 0.75 * (max(colour) - min(colour)), "the behaviour has changed"
PYTHON
