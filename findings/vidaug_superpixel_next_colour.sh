#!/bin/bash
# vidaug's Superpixel fills each piece with the mean colour of the next piece, and never touches the last.
#
# Expected: each piece gets the mean of its own pixels, as the name says. With p_replace=1 a frame that consists of
# four squares, cut into four pieces, stays as it is.
# Seen with vidaug 1.5 and scikit-image 0.26.0: the upper left square gets the colour of the upper right one, that one
# the colour of the lower left one, and so on. scikit-image numbers pieces from 1 by now, vidaug from 0.
# Why it matters: the colours of a frame change their places, sky becomes road. vidaug asks for no version of
# scikit-image, so that the current one is what people have.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    vidaug==1.5 scikit-image==0.26.0 opencv-python-headless==5.0.0.93 scipy==1.17.1 pillow==12.3.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 -W ignore - <<'PYTHON'
import contextlib
import importlib.metadata
import io

import numpy as np
from vidaug import augmentors

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("vidaug", "scikit-image", "numpy")))
colours = ["red", "green", "blue", "yellow"]
values = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [240, 240, 20]], np.uint8)
corners = [(0, 0), (0, 40), (32, 0), (32, 40)]
frame = np.zeros((64, 80, 3), np.uint8)
for value, (top, left) in zip(values, corners):
    frame[top:top + 32, left:left + 40] = value
with contextlib.redirect_stdout(io.StringIO()):
    (result,) = augmentors.Superpixel(p_replace=1, n_segments=4)([frame])
middles = np.array([result[top + 16, left + 20] for top, left in corners])
seen = [colours[int(np.abs(values.astype(int) - middle).sum(1).argmin())] for middle in middles]
print(f"four squares {colours} become {seen}")
assert (values == np.array([frame[top + 16, left + 20] for top, left in corners])).all()
assert seen == [*colours[1:], colours[-1]], "the behaviour has changed"
PYTHON
