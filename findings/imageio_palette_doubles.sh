#!/bin/bash
# imageio's palette leaves out a colour that stands in it twice, so that every later class gets the colour of the next.
#
# Expected: palette[i] is the colour of index i. The documentation of read() says so: mode="P" gives the indices, and
# the palette "can be found in the image's metadata".
# Seen with imageio 2.38.1 and Pillow 13.0.0: the palette of a mask with the colours black, black, red, green has three
# rows, black, red, green. Index 2, which is red, becomes green, and index 3 has no colour. Without doubles it is right,
# and so are the colours that imread() gives without mode=, and Pillow's getpalette().
# Why it matters: palettes of segmentation masks have doubles (classes drawn alike, unused entries that are black), and
# whoever looks up classes by colour trains or counts the wrong class.
# Without it: np.reshape(PIL.Image.open(path).getpalette(), (-1, 3)).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    imageio==2.38.1 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import sys

import imageio
import imageio.v3 as iio
import numpy as np
import PIL
from PIL import Image

path = f"{sys.argv[1]}/mask.png"
BLACK, RED, GREEN, BLUE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)

print(f"imageio {imageio.__version__}, Pillow {PIL.__version__}")
for colours, rows in (
    ([BLACK, RED, GREEN, BLUE], [BLACK, RED, GREEN, BLUE]),
    ([BLACK, BLACK, RED, GREEN], [BLACK, RED, GREEN]),
):
    mask = Image.fromarray(np.arange(4, dtype=np.uint8)[None])
    mask.putpalette([level for colour in colours for level in colour])
    assert mask.mode == "P"
    mask.save(path)
    indices = iio.imread(path, mode="P")
    palette = [tuple(colour) for colour in iio.immeta(path, exclude_applied=False)["palette"].tolist()]
    with Image.open(path) as opened:
        pillow = [tuple(colour) for colour in np.reshape(opened.getpalette(), (-1, 3)).tolist()]
    print(f"written {colours}, indices {indices.tolist()}, imageio's palette {palette}, Pillow's {pillow}")
    assert indices.tolist() == [[0, 1, 2, 3]] and pillow[:4] == colours, "the behaviour has changed"
    assert iio.imread(path)[0].tolist() == [list(colour) for colour in colours], "the behaviour has changed"
    assert palette == rows, "the behaviour has changed"
PYTHON
