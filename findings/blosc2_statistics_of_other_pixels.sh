#!/bin/bash
# The sum and the mean of a blosc2 expression of uint8 pixels are not those of the pixels that it gives.
#
# Expected: an expression such as pixels * 2 says of itself that it is uint8, and gives what numpy gives, numbers that
# begin at 0 again after 255; its sum, mean and deviation are those of the same numbers.
# Seen with blosc2 4.14.1: (pixels * 2).sum() and .mean() are those of numbers up to 510, which the expression never
# gives: the mean is 255 where the largest pixel is 254. For first + second the sum and the mean are right, and std(),
# var() and argmax() are of numbers beyond 255. compute() first, and then the sum, gives numpy's answers.
# Why it matters: mean and deviation of a data set that is kept compressed go into the normalisation of a network.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    blosc2==4.14.1 numpy==2.4.6 numexpr==2.14.2 ndindex==1.10.1 msgpack==1.2.4
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import blosc2
import numpy as np

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("blosc2", "numpy", "numexpr")))
generator = np.random.default_rng(0)
first, second = generator.integers(0, 256, (2, 50, 60), dtype=np.uint8)
one, other = blosc2.asarray(first), blosc2.asarray(second)
for title, expression, right, differing in (
    ("pixels * 2", one * 2, first * np.uint8(2), {"sum", "mean", "std", "var", "argmax"}),
    ("first + second", one + other, first + second, {"std", "var", "argmax"}),
):
    given = expression.compute()
    assert expression.dtype == given.dtype == np.uint8 and np.array_equal(given[:], right)
    for name in ("max", "sum", "mean", "std", "var", "argmax"):
        found, of_given, wanted = (getattr(each, name)() for each in (expression, given, right))
        print(f"{title}: {name} {found:.6g}, of what it gives {of_given:.6g}, numpy {wanted:.6g}")
        assert np.isclose(of_given, wanted), "the behaviour has changed"
        assert np.isclose(found, wanted) != (name in differing), "the behaviour has changed"
PYTHON
