#!/bin/bash
# mahotas' majority_filter() takes 4 of 9 pixels, and 12 of 25, for the majority.
#
# Expected: a pixel of the answer is set if the majority of the pixels in the square around it is set, as the
# documentation says: from 5 of 9 on, from 13 of 25, and from 25 of 49.
# Seen with mahotas 1.4.19: it is set from 4 of 9 on, from 12 of 25, and from 24 of 49. Half the number of pixels is
# rounded down, and a number equal to that is enough, although as many and one more are not set.
# Why it matters: the filter is to leave the size of objects as it is while it smooths their border. Here set and not
# set are treated unequally: an end of a line or a corner grows, noise is kept, and a mask and its inverse are not
# filtered to a mask and its inverse.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mahotas==1.4.19 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import mahotas
import numpy as np


def is_set(size: int, count: int) -> bool:
    """What the filter says at the centre of a square with this number of pixels set, and nothing outside of it."""
    picture = np.zeros((3 * size, 3 * size), bool)
    square = np.zeros(size * size, bool)
    square[:count] = True
    picture[size:2 * size, size:2 * size] = square.reshape(size, size)
    return bool(mahotas.majority_filter(picture, size)[size + size // 2, size + size // 2])


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mahotas", "numpy")))
for size in (3, 5, 7):
    pixels = size * size
    answers = [is_set(size, count) for count in range(pixels + 1)]
    first = answers.index(True)
    right = min(count for count in range(pixels + 1) if count > pixels - count)
    print(f"{pixels} pixels: set from {first} on, the majority begins with {right}")
    assert answers == [count >= first for count in range(pixels + 1)] and right == pixels // 2 + 1
    assert first == pixels // 2, "the behaviour has changed"
mask = np.random.default_rng(0).random((50, 70)) < 0.5
changed = mahotas.majority_filter(mask, 3) == mahotas.majority_filter(~mask, 3)
inner = changed[1:-1, 1:-1]
print(f"a random mask and its inverse get the same answer at {inner.mean():.0%} of the pixels inside")
assert 0.4 < inner.mean() < 0.6, "the behaviour has changed"  # 4 or 5 of 9: 252 of 512
PYTHON
