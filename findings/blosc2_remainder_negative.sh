#!/bin/bash
# blosc2's remainder() and % give -4 for -4 % 7, where the documentation promises Python's operator, which gives 3.
#
# Expected: "This function is equivalent to the Python modulus operator x1_i % x2_i", with a reference to
# numpy.remainder: the answer has the sign of the divisor, so that x == x // y * y + x % y.
# Seen with blosc2 4.14.1: the answer has the sign of the first number, as in C: numpy.fmod, not numpy.remainder. So it
# is for whole numbers, floats, the operator, the function and expressions as text. floor_divide() and // round down as
# in Python, so that -4 // 7 * 7 + -4 % 7 is -11.
# Why it matters: angles, hues and columns of a panorama are brought into a range with %. Here the negative ones stay
# negative: a hue of -10 degrees becomes -10 instead of 350, and an index wraps to another place.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    blosc2==4.14.1 numexpr==2.14.2 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 BLOSC_NTHREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import blosc2
import numpy as np

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("blosc2", "numexpr", "numpy")))
for kind in (np.int8, np.int32, np.int64, np.float32, np.float64):
    numbers = np.array([-10, -4, -1, 5, 8], kind)
    array, divisor = blosc2.asarray(numbers), blosc2.asarray(np.full(5, 7, kind))
    right = [int(number) % 7 for number in numbers]
    assert np.remainder(numbers, kind(7)).tolist() == right == [4, 3, 6, 5, 1]
    answers = {
        "operator": (array % 7)[:],
        "operator with an array": (array % divisor)[:],
        "remainder()": blosc2.remainder(array, divisor)[:],
        "expression": blosc2.lazyexpr("array % divisor")[:],
    }
    for name, found in answers.items():
        assert found.tolist() == np.fmod(numbers, kind(7)).tolist() == [-3, -4, -1, 5, 1], "the behaviour has changed"
    again = (array // divisor)[:] * 7 + answers["remainder()"]
    print(f"{np.dtype(kind)}: {numbers.tolist()} % 7 is {answers['operator'].tolist()}, right is {right};", end=" ")
    print(f"quotient * 7 + remainder is {again.tolist()}")
    assert again.tolist() == [-17, -11, -8, 5, 8], "the behaviour has changed"
PYTHON
