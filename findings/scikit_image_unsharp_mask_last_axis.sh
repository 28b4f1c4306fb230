#!/usr/bin/env bash
# scikit-image's unsharp_mask() with channel_axis=-1 works on three rows of a picture, and never writes the others.
#
# Expected: -1 is the last axis, as everywhere in NumPy and scikit-image, and the same as 2 for a picture in colour.
# Seen with scikit-image 0.26.0: -1 is taken for the first axis, and -2 gives a wrong answer too. As many rows as there are colours are
# sharpened, as if columns and colours were height and width; all other rows are memory as it was before. With 0, 1 and
# 2 the answer is right, and with -3 for colours first, as that is the first axis. gaussian(), rescale(), rgba2rgb() and
# structural_similarity() take -1 as they should.
# Why it matters: channel_axis=-1 is the usual way to say "colour", and nothing fails: what comes out has the right
# shape and type, and its pixels are black, or left from an earlier picture, or others in each run.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
from unittest import mock

import numpy as np
import skimage
from skimage.color import rgba2rgb
from skimage.filters import gaussian, unsharp_mask
from skimage.metrics import structural_similarity
from skimage.transform import rescale

UNWRITTEN = 7.0
generator = np.random.default_rng(0)
picture = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def sharpened(axis: int, filled: bool = False) -> np.ndarray:
    """The picture sharpened, colours last; its result lies in memory that holds 7 everywhere before, if asked to."""
    memory = mock.patch("numpy.empty_like", lambda like, dtype: np.full(like.shape, UNWRITTEN, dtype))
    given = np.moveaxis(picture, 2, axis)
    if not filled:
        return np.moveaxis(unsharp_mask(given, channel_axis=axis), axis, 2)
    with memory:
        return np.moveaxis(unsharp_mask(given, channel_axis=axis), axis, 2)


print(f"scikit-image {skimage.__version__}, a picture of {picture.shape}")
untouched = sharpened(-1)
right = np.stack([unsharp_mask(picture[..., colour]) for colour in range(3)], axis=2)
wrong = (untouched != right).mean((1, 2))
print(f"channel_axis=-1: the least share of a row that is wrong is {wrong.min():.2f}")
assert wrong.min() > 0.3, "the behaviour has changed"
filled = sharpened(-1, filled=True)
written = (filled != UNWRITTEN).all((1, 2))
print(f"rows that are written: {np.flatnonzero(written).tolist()}, the others are as they were")
assert written.tolist() == [True] * 3 + [False] * 37 and (filled[3:] == UNWRITTEN).all(), "the behaviour has changed"
plane = np.stack([unsharp_mask(picture[row]) for row in range(3)])  # columns and colours as height and width
assert np.allclose(filled[:3], plane), "the behaviour has changed"

same = {axis: bool(np.allclose(sharpened(axis, filled=True), right)) for axis in (0, 1, 2, -1, -2, -3)}
print(f"right with channel_axis: {same}")
assert same == {0: True, 1: True, 2: True, -1: False, -2: False, -3: True}, "the behaviour has changed"

with_alpha = generator.random((40, 50, 4))
other = generator.integers(0, 256, picture.shape, dtype=np.uint8)
others = {
    "gaussian": lambda axis: gaussian(picture, channel_axis=axis),
    "rescale": lambda axis: rescale(picture, 0.5, channel_axis=axis),
    "structural_similarity": lambda axis: structural_similarity(picture, other, channel_axis=axis),
    "rgba2rgb": lambda axis: rgba2rgb(with_alpha, channel_axis=axis),
}
agree = {name: bool(np.allclose(function(-1), function(2))) for name, function in others.items()}
print(f"the same with -1 and 2: {agree}")
assert all(agree.values()), "the behaviour has changed"
PYTHON
