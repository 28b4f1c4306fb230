#!/bin/bash
# imageio's rotate=True turns a mirrored photo upside down, or not at all, if mode= asks for another number of channels.
#
# Expected: mode="L" and rotate=True together give the picture that mode="L" gives after Pillow's exif_transpose().
# Seen with imageio 2.38.1 and Pillow 13.0.0: the axis to mirror is chosen by the file's mode, before the conversion. A
# colour photo read with mode="L" is mirrored from top to bottom instead of from left to right with orientations 2, 5
# and 7, and raises AxisError with 4. A grey one read with mode="RGB" is not mirrored at all: its channels change places
# instead. Without mode= all eight orientations are right, and so are 1, 3, 6 and 8 with it.
# Why it matters: front cameras and scanners write orientations that mirror, and objects then lie elsewhere than their
# boxes. Nothing is said, and the shape is right.
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
from PIL import Image, ImageOps

path = f"{sys.argv[1]}/photo.png"
colour = Image.fromarray(np.arange(0, 240, 10, dtype=np.uint8).reshape(2, 4, 3))


def right(photo: Image.Image, mode: str | None) -> list[bool | str]:
    """Whether the picture is the right one with each of the orientations 1 to 8."""
    answers = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        photo.save(path, exif=exif)
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            expected = np.asarray(upright.convert(mode) if mode else upright)
        try:
            answers.append(bool(np.array_equal(iio.imread(path, mode=mode, rotate=True), expected)))
        except np.exceptions.AxisError:
            answers.append("AxisError")
    return answers


print(f"imageio {imageio.__version__}, Pillow {PIL.__version__}; right with orientations 1 to 8:")
cases = {
    "colour": (colour, None, [True] * 8),
    "colour, mode='L'": (colour, "L", [True, False, True, "AxisError", False, True, False, True]),
    "grey": (colour.convert("L"), None, [True] * 8),
    "grey, mode='RGB'": (colour.convert("L"), "RGB", [True, False, True, False, False, True, False, True]),
}
for name, (photo, mode, seen) in cases.items():
    answers = right(photo, mode)
    print(f"{name}: {answers}")
    assert answers == seen, "the behaviour has changed"

exif = Image.Exif()
exif[274] = 2  # mirrored from left to right
colour.save(path, exif=exif)
grey = np.asarray(colour.convert("L"))
found = iio.imread(path, mode="L", rotate=True)
print(f"stored {grey.tolist()}, orientation 2, upright {grey[:, ::-1].tolist()}, imageio {found.tolist()}")
assert np.array_equal(found, grey[::-1]), "the behaviour has changed"
PYTHON
