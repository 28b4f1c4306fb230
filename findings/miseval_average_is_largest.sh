#!/bin/bash
# miseval's average Hausdorff distance is the largest distance, not an average.
#
# Expected: "AHD", the average Hausdorff distance: the mean of the distances from the points of one object to the other
# object, and back, as Taha and Hanbury (2015) define it. One false pixel hardly changes it.
# Seen with miseval 1.3.0: the largest of all distances is returned. One false pixel 60 pixels away from an object of
# 400 pixels, which is right otherwise, makes it 60.
# Why it matters: the average is asked for because the largest distance depends on single pixels.
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
from scipy import ndimage

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("miseval", "scipy", "numpy")))
truth = np.zeros((100, 120), np.uint8)
truth[10:30, 10:30] = 1
for column in (31, 49, 89):
    found = truth.copy()
    found[20, column] = 1  # one false pixel, column - 29 pixels away from the object
    there = ndimage.distance_transform_edt(truth == 0)[found == 1].mean()
    back = ndimage.distance_transform_edt(found == 0)[truth == 1].mean()
    seen = float(evaluate(truth, found, metric="AHD"))
    print(f"one false pixel at a distance of {column - 29}: {seen:.2f}; the average is {max(there, back):.2f}")
    assert max(there, back) <= (column - 29) / 400
    assert seen == column - 29, "the behaviour has changed"
PYTHON
