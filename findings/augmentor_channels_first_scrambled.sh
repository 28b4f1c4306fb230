#!/bin/bash
# Augmentor's Keras generators with image_data_format="channels_first" give scrambled pictures.
#
# Expected: "channels_first" gives each picture as (channel, row, column), so that moving the first axis to the end
# gives the picture of "channels_last" again.
# Seen with Augmentor 0.2.12: the numbers of the picture are read off row by row and filled into the new shape. Of a
# picture that is red all over, each "channel" is a pattern of stripes of 255, 0 and 0. keras_generator() and
# keras_generator_from_array() alike. The shape is as documented, the labels are right, and nothing is said. Grey
# pictures, and "channels_last", are right.
# Why it matters: a network that trains on this never sees a picture as it is, and later gets proper ones. With
# pictures as large as usual the loss falls all the same, so that it looks like a poor network.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    Augmentor==0.2.12 numpy==2.4.6 Pillow==13.0.0 tqdm==4.70.1
PYTHONPATH="$folder/packages" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import pathlib
import random
import sys

import Augmentor
import numpy as np
from PIL import Image

folder = pathlib.Path(sys.argv[1]) / "photos"
pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
red = np.zeros((4, 6, 3), np.uint8)
red[..., 0] = 255


def batch(picture: np.ndarray, layout: str, from_array: bool) -> np.ndarray:
    """The only picture of a batch of one, turned by 180 degrees twice, which is the picture itself."""
    name = folder / f"{len(list(folder.parent.glob('photos*')))}"
    name.mkdir(parents=True, exist_ok=True)
    for old in name.glob("*.png"):
        old.unlink()
    Image.fromarray(picture).save(name / "photo.png")
    random.seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        pipeline = Augmentor.Pipeline(str(name), output_directory=str(folder.parent / "output"))
    pipeline.rotate180(probability=1)
    pipeline.rotate180(probability=1)
    if from_array:
        generator = pipeline.keras_generator_from_array([picture], [7], 1, scaled=False, image_data_format=layout)
    else:
        generator = pipeline.keras_generator(1, scaled=False, image_data_format=layout)
    pictures, _ = next(generator)
    return pictures[0]


print(f"Augmentor {importlib.metadata.version('Augmentor')}")
for from_array in (False, True):
    for name, picture in (("numbers", pixels), ("red", red)):
        last, first = (batch(picture, layout, from_array) for layout in ("channels_last", "channels_first"))
        right = np.moveaxis(picture, -1, 0)
        assert np.array_equal(last, picture) and first.shape == right.shape == (3, 4, 6)
        where = "keras_generator_from_array" if from_array else "keras_generator"
        print(f"{where}, {name}: first row of the first channel {first[0, 0]}, should be {right[0, 0]}")
        print(f"  {(first == right).mean():.0%} of the numbers are in their place")
        assert not np.array_equal(first, right), "the behaviour has changed"
        assert np.array_equal(first, picture.reshape(3, 4, 6)), "the behaviour has changed"
grey = pixels[..., 0]
assert np.array_equal(batch(grey, "channels_first", False)[0], grey), "the behaviour has changed"
PYTHON
