#!/bin/bash
# tiler's Merger blackens the outermost rows and columns of a picture with the windows hann, bartlett and barthann.
#
# Expected: tiles that were cut and not changed are put together to the picture that they came from, whatever window
# weights them: the sum is divided by the sum of the weights.
# Seen with tiler 0.6.0: these three windows are 0 at both ends of a tile. The first row and column of a picture are in
# the ends of tiles only, their weights sum to 0, and 0 / 0 becomes 0. The last row and column are lost, too, if the
# tiles end with the picture; without overlap there is a black grid over the whole picture. triang, hamming, blackman
# (whose ends are not exactly 0) and boxcar are right. Only for "overlap-tile" does the documentation ask for padding.
# Why it matters: hann is the usual choice against seams between the tiles of a segmentation. The frame of the picture
# becomes class 0 or probability 0, objects at the border are cut off, and nothing is said.
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
photo = np.random.default_rng(0).uniform(1, 2, (44, 56, 3))  # three tiles high and three wide, with an overlap of 8


def black(window: str, overlap: int) -> tuple[list[int], list[int]]:
    """The rows and the columns that are black after the photo was cut into tiles and put together again."""
    tiler = Tiler(photo.shape, (20, 24, 3), overlap=overlap, channel_dimension=2)
    merger = Merger(tiler, window=window)
    for number, tile in tiler(photo):
        merger.add(number, tile)
    found = merger.merge()
    zero = (found == 0).all(axis=2)
    assert np.allclose(found[~zero], photo[~zero], atol=1e-4)  # all else is right
    return np.flatnonzero(zero.all(axis=1)).tolist(), np.flatnonzero(zero.all(axis=0)).tolist()


for window in ("boxcar", "triang", "hamming", "blackman", "hann", "bartlett", "barthann"):
    rows, columns = black(window, 8)
    print(f"{window}: black rows {rows} of {photo.shape[0]}, black columns {columns} of {photo.shape[1]}")
    wrong = window in ("hann", "bartlett", "barthann")
    assert (rows, columns) == (([0, 43], [0, 55]) if wrong else ([], [])), "the behaviour has changed"
rows, columns = black("hann", 0)
print(f"hann without overlap: black rows {rows}, black columns {columns}")
assert rows == [0, 19, 20, 39, 40] and columns == [0, 23, 24, 47, 48], "the behaviour has changed"
PYTHON
