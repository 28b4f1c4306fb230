#!/bin/bash
# solt's GridMask keeps squares on one diagonal and blackens all else, in the picture of the caller too.
#
# Expected: GridMask as in the paper that the documentation names (arXiv 2001.04086): a grid of squares over the whole
# picture is removed, at all combinations of rows and columns, and a new picture is returned.
# Seen with solt 0.2.1: rows and columns are counted by one variable, so that there is a square only where their
# numbers agree. With a period of 8, squares of 4 and a picture of 64 by 64 that makes 8 squares instead of 64. In the
# usual mode these squares are all that is left: at most 128 pixels of 4096. With mode="reverse" they are all that is
# removed. The array of the caller is overwritten in both.
# Why it matters: nearly nothing is left to learn from, and a picture that is kept in memory is lost in the first epoch.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    solt==0.2.1 torch==2.15.0 torchvision==0.29.2 opencv-python-headless==5.0.0.93 scipy==1.17.1 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import random

import numpy as np
from solt import transforms as slt

PERIOD, SIZE = 8, 64


def squares(mode: str, seed: int) -> tuple[set[tuple[int, int]], int, bool]:
    """The cells of the grid that hold a square, the pixels in squares, and whether the given picture was changed."""
    random.seed(seed)
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    result = slt.GridMask(d_range=(PERIOD, PERIOD), ratio=0.5, mode=mode, p=1)({"image": white}).data[0][..., 0]
    marked = result > 0 if mode == "none" else result == 0
    rows, columns = np.nonzero(marked)
    cells = set(zip((rows // PERIOD).tolist(), (columns // PERIOD).tolist()))
    return cells, int(marked.sum()), bool((white < 255).any())


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("solt", "numpy")))
right = (SIZE // PERIOD) ** 2 * (PERIOD // 2) ** 2
for mode in ("none", "reverse"):
    pixels = []
    for seed in range(20):
        cells, count, overwritten = squares(mode, seed)
        assert overwritten and max(abs(row - column) for row, column in cells) <= 2, "the behaviour has changed"
        pixels.append(count)
    print(f"mode {mode}: {min(pixels)} to {max(pixels)} pixels in squares in 20 pictures, about {right} in a grid")
    assert max(pixels) <= 150, "the behaviour has changed"
PYTHON
