#!/bin/bash
# vidaug's InverseOrder drops the first frame of a clip.
#
# Expected: the order of the frames is turned round, as the documentation says: as many frames as before, the last
# first.
# Seen with vidaug 1.5: the first frame is missing, so that a clip of 16 has 15 frames, and one of 2 has one.
# Why it matters: used at random, it makes clips of two lengths. Labels of frames that are turned round as well have
# one more than there are frames, and the frame that begins the action is not learnt from.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    vidaug==1.5 scikit-image==0.26.0 opencv-python-headless==5.0.0.93 scipy==1.17.1 pillow==12.3.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from PIL import Image
from vidaug import augmentors

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("vidaug", "numpy", "pillow")))
for count in (2, 3, 16):
    frames = [np.full((4, 6, 3), number, np.uint8) for number in range(count)]  # frame n is filled with n
    turned = [int(frame[0, 0, 0]) for frame in augmentors.InverseOrder()(frames)]
    pictures = [Image.fromarray(frame) for frame in frames]
    assert turned == [picture.getpixel((0, 0))[0] for picture in augmentors.InverseOrder()(pictures)]
    print(f"{count} frames: {turned}")
    assert turned == list(range(count - 1, 0, -1)), "the behaviour has changed"
PYTHON
