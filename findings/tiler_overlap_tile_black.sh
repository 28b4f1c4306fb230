#!/bin/bash
# tiler's Merger gives a black picture with the window "overlap-tile" if the tiles overlap along one axis only.
#
# Expected: the window has ones in the middle of a tile, which does not overlap with others, and zeros around it. Along
# an axis without overlap all of the tile is middle. Tiles that were cut and not changed are put together to the picture
# that they came from, if it was padded with calculate_padding() as the documentation asks.
# Seen with tiler 0.6.0: half the overlap is cut off with window[half:-half], which is empty for 0. All weights are
# then 0, the division by their sum gives NaN, and that is made 0: the merged picture is black everywhere. An overlap
# of 1 has a half of 0, too. With an overlap of 2 or more along both axes the picture is right.
# Why it matters: strips of a scan, and volumes that are cut in slices along one axis, overlap along some axes only. All
# predictions of the network are lost, the shape is right, and nothing is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    tiler==0.6.0 numpy==2.4.6 tqdm==4.70.1
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from tiler import Merger, Tiler

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tiler", "numpy")))
photo = np.random.default_rng(0).uniform(1, 2, (50, 73, 3))


def merged(window: str, overlap: tuple[int, int, int] | int) -> np.ndarray:
    """The photo, cut into tiles and put together again."""
    tiler = Tiler(photo.shape, (20, 24, 3), overlap=overlap, channel_dimension=2)
    size, padding = tiler.calculate_padding()
    tiler.recalculate(data_shape=size)
    merger = Merger(tiler, window=window)
    for number, tile in tiler(np.pad(photo, padding, mode="reflect")):
        merger.add(number, tile)
    return merger.merge(extra_padding=padding)


for overlap in ((8, 8, 0), (2, 4, 0), (8, 0, 0), (0, 8, 0), 1, 0):
    boxcar, found = merged("boxcar", overlap), merged("overlap-tile", overlap)
    assert np.allclose(boxcar, photo, atol=1e-5) and found.shape == photo.shape
    right = np.allclose(found, photo, atol=1e-5)
    print(f"overlap {overlap}: the mean of the photo is {photo.mean():.2f}, merged {found.mean():.2f}")
    assert right == (overlap in ((8, 8, 0), (2, 4, 0))), "the behaviour has changed"
    if not right:
        assert not found.any(), "the behaviour has changed"
PYTHON
