#!/bin/bash
# mahotas moves a picture up to a pixel to the top left when it resizes it, never interpolates, and blackens its border.
#
# Expected: resize_to(), imresize() and interpolate.zoom() use spline interpolation, "order: spline order to use", as
# scipy.ndimage.zoom() does, from which the documentation says that they come. A picture resized to its own size is
# that picture.
# Seen with mahotas 1.4.19: each pixel is a copy of the next pixel to the right and below, with orders 0 to 3 alike.
# Resized to its own size, the ramp 0, 10, 20, 30, 40 becomes 10, 20, 30, 40, 0: one pixel off, the last row and column
# black. Enlarged to 9, it is 10, 10, 20, 20, 30, 30, 40, 40, 0, where SciPy has 0, 5, 10, 15 and so on.
# Why it matters: boxes, points and masks that were drawn on the picture no longer fit, every picture gets a black
# border that is not in it, and masks lose their first row and column.
# Without it: scipy.ndimage.zoom() (below), or Pillow.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mahotas==1.4.19 scipy==1.17.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import mahotas
import numpy as np
import scipy
from scipy import ndimage

ramp = np.tile(np.arange(0.0, 50.0, 10.0), (5, 1))
print(f"mahotas {mahotas.__version__}, SciPy {scipy.__version__}, a row of the picture: {ramp[0].tolist()}")
copies = {5: [10, 20, 30, 40, 0], 9: [10, 10, 20, 20, 30, 30, 40, 40, 0], 3: [10, 30, 0]}
for size, seen in copies.items():
    linear = np.linspace(0, 40, size)
    for order in range(4):
        found = mahotas.resize_to(ramp, (size, size), order=order)
        scipys = ndimage.zoom(ramp, size / 5, order=order)[0]
        assert np.allclose(found[0], seen) and not found[-1].any(), "the behaviour has changed"
        assert np.array_equal(found, mahotas.imresize(ramp, (size, size), order)), "the behaviour has changed"
        assert order != 1 or np.allclose(scipys, linear), "SciPy has changed"
    print(f"resized to {size}, orders 0 to 3: {seen}, last row black; linear: {linear.tolist()}")
    nearest = mahotas.interpolate.zoom(ramp, size / 5, order=1, mode="nearest")
    assert np.array_equal(nearest[0], [*seen[:-1], 40]), "the behaviour has changed"  # no black, and as far off
PYTHON
