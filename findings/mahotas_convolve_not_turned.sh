#!/bin/bash
# mahotas' convolve() does not turn the kernel round, so that a Gaussian filter of order 1 gives the negative slope.
#
# Expected: a convolution of a picture with one bright pixel is the kernel, at that pixel. A convolution with the first
# derivative of a Gaussian, which is what the documentation of gaussian_filter1d() names for order=1, is the slope of a
# ramp: 1 for 0, 1, 2, 3 and on.
# Seen with mahotas 1.4.19: convolve() and convolve1d() give the kernel turned by 180 degrees, which is what a
# correlation gives. With order=1 the ramp has a slope of -1, and order=3 has the other sign, too; order 2 is right, as
# its kernel is symmetric. SciPy's functions of the same names give the kernel as it is, and a slope of 1.
# Why it matters: edges get the wrong direction: what becomes brighter is said to become darker. Kernels that shift
# or differentiate do so the other way round, and code that moves from SciPy to mahotas changes sign without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mahotas==1.4.19 scipy==1.17.1 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import mahotas
import numpy as np
from scipy import ndimage, signal

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mahotas", "scipy", "numpy")))
point = np.zeros((7, 9))
point[3, 4] = 1
kernel = np.arange(1.0, 10).reshape(3, 3)
assert np.allclose(signal.convolve2d(point, kernel, mode="same")[2:5, 3:6], kernel)
assert np.allclose(ndimage.convolve(point, kernel)[2:5, 3:6], kernel)
found = mahotas.convolve(point, kernel)[2:5, 3:6]
print(f"kernel {kernel.tolist()}, a point convolved with it {found.tolist()}")
assert np.array_equal(found, kernel[::-1, ::-1]), "the behaviour has changed"
row = mahotas.convolve1d(point, np.array([1.0, 2, 5]), 1)[3, 3:6]
print(f"kernel [1, 2, 5], a point convolved with it {row.tolist()}; SciPy", end=" ")
print(ndimage.convolve1d(point, [1.0, 2, 5], 1)[3, 3:6].tolist())
assert row.tolist() == [5, 2, 1], "the behaviour has changed"
for order, right in ((1, 1), (2, 2), (3, 6)):  # kernels are cut off at 4 sigma, so that SciPy's is not quite right
    line = np.tile(np.arange(30.0) ** order, (5, 1))
    ours = mahotas.gaussian_filter1d(line, 1.0, axis=1, order=order)[2, 15]
    theirs = ndimage.gaussian_filter1d(line, 1.0, axis=1, order=order)[2, 15]
    print(f"derivative {order} of x ** {order}: mahotas {ours:.2f}, SciPy {theirs:.2f}, right is {right}")
    assert 0.8 * right < theirs < 1.01 * right
    assert np.isclose(ours, theirs if order == 2 else -theirs, rtol=1e-3), "the behaviour has changed"
PYTHON
