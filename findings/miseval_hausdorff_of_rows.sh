#!/bin/bash
# miseval's Hausdorff distance takes the rows of a mask for points: an object far below its place has the distance 0.
#
# Expected: evaluate(truth, mask, metric="HD") gives the largest distance in pixels from the object in one mask to the
# object in the other, and with multi_class=True one number for each class.
# Seen with miseval 1.3.0: the masks themselves are given to a package that wants lists of points, one a row. Masks
# that hold the same rows in another order have the distance 0, so that an object 40 pixels below its place is perfect.
# An object that is moved to the side gets the root of its width, however far it is. The classes are never looked at:
# all get the same number.
# Why it matters: segmentations of organs and tumours are ranked by this distance, and a miss by half the picture is
# reported as perfect.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    miseval==1.3.0 hausdorff==0.2.6 dictances==1.5.3 numba==0.68.1 llvmlite==0.50.0 scikit-learn==1.9.1 \
    scikit-image==0.26.0 scipy==1.17.1 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from miseval import evaluate
from scipy.spatial.distance import directed_hausdorff

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("miseval", "hausdorff", "scipy", "numpy")))


def mask(top: int, left: int) -> np.ndarray:
    """A mask with an object of class 1, 20 rows high and 9 columns wide, and one of class 2 in a corner."""
    picture = np.zeros((100, 120), np.uint8)
    picture[90:, 100:] = 2
    picture[top:top + 20, left:left + 9] = 1
    return picture


truth = mask(10, 10)
for name, other, far, wrong in (("40 pixels below", mask(50, 10), 40, 0), ("40 to the right", mask(10, 50), 40, 9),
                                ("80 to the right", mask(10, 90), 80, 9)):
    points = np.argwhere(truth == 1), np.argwhere(other == 1)
    assert max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0]) == far
    binary = float(evaluate(truth % 2, other % 2, metric="HD"))
    classes = evaluate(truth, other, metric="HD", multi_class=True, n_classes=3).tolist()
    print(f"{name}: {binary:.2f} instead of {far}; of each class {[round(each, 2) for each in classes]}")
    assert abs(binary - wrong**0.5) < 0.001, "the behaviour has changed"
    assert (truth == 2).sum() == (other == 2).sum() == 200  # class 2 stays in its place, and has the distance 0
    assert classes == [binary] * 3, "the behaviour has changed"
PYTHON
