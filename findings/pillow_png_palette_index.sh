#!/usr/bin/env bash
# Pillow changes the pixels of a palette image whose palette is short when it writes a PNG, and says nothing.
#
# Expected: the indices come back, as PNG is lossless; the text of save() says that 8 bits are stored if "bits" is left
# out. Or an error, as a PNG cannot name a colour behind its palette.
# Seen with Pillow 13.0.0: with a palette of 4 colours the index 255 comes back as 3, with 2 colours as 1, with 16 as
# 15: the writer takes as few bits as the palette needs, even with bits=8, and cuts the rest off the index; the pixel's
# colour changes with it. The index stays with a palette of 17 colours or more, and in a TIFF.
# Why it matters: segmentation masks of the Pascal VOC kind mark pixels to ignore with 255 and have a colour for each
# class; with a few classes of one's own the ignored border becomes the last class.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 -W error - <<'PYTHON'
import io

import numpy as np
import PIL
from PIL import Image


def indices(colours: int, form: str = "PNG", **settings: int) -> list[int]:
    """The indices that come back of a mask with 0, 1 and 255, and a palette of so many colours."""
    mask = Image.fromarray(np.array([[0, 0, 1], [0, 1, 255]], np.uint8))
    mask.putpalette([level for colour in range(colours) for level in (10 * colour, 0, 0)])
    file = io.BytesIO()
    mask.save(file, form, **settings)
    return np.unique(np.asarray(Image.open(file))).tolist()


seen = {colours: indices(colours) for colours in (2, 4, 16, 17)}
others = {"PNG with bits=8": indices(4, bits=8), "TIFF": indices(4, "TIFF")}
print(f"Pillow {PIL.__version__}, indices 0, 1 and 255 come back from PNG as, by number of colours: {seen}")
print(f"with 4 colours: {others}")
assert seen == {2: [0, 1], 4: [0, 1, 3], 16: [0, 1, 15], 17: [0, 1, 255]}, "the behaviour has changed"
assert list(others.values()) == [[0, 1, 3], [0, 1, 255]], "the behaviour has changed"
PYTHON
