#!/bin/bash
# pycm gives a classifier that makes no mistake an area of 0.5 or 0 under its curve of precision and recall.
#
# Expected: 1, as scikit-learn's average_precision_score() gives, and as pycm's own ROCCurve does. "A larger area under
# the curve represents better performance", says pycm's README.
# Seen with pycm 4.6: PRCurve.area() begins at the recall of the highest score, not at 0. What lies left of that point
# is missing: half of the area with two objects of a class, all of it if all of them have the same score. The area under
# a worse classifier is larger if its scores lie apart: one that finds a false object second has 0.29, the perfect one
# with equal scores 0. With two hundred objects and as many scores it is nearly right.
# Why it matters: rare classes and sure networks, whose scores are all 1.0, get the lowest areas, and the better of two
# networks is taken for the worse one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pycm==4.6 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from pycm import PRCurve, ROCCurve
from sklearn.metrics import average_precision_score

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pycm", "scikit-learn")))
for name, truth, scores, seen in (
    ("perfect, all scores equal", [1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0], 0.0),
    ("perfect, two scores", [1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1], 0.5),
    ("second is false", [1, 0, 1, 0], [0.9, 0.65, 0.6, 0.2], 0.2917),
    ("perfect, 200 scores", [1] * 200 + [0] * 200, np.linspace(0.995, 0.005, 400).tolist(), 0.995),
):
    probabilities = np.array([[score, 1 - score] for score in scores])
    curves = [curve(actual_vector=truth, probs=probabilities, classes=[1, 0]) for curve in (PRCurve, ROCCurve)]
    found, roc = (curve.area()[1] for curve in curves)
    right = float(average_precision_score(truth, scores))
    print(f"{name}: PRCurve.area() {found:.4f}, ROCCurve.area() {roc:.4f}, average precision {right:.4f}")
    assert abs(found - seen) < 1e-4, "the behaviour has changed"
    perfect = name.startswith("perfect")
    assert (right == 1.0 and abs(roc - 1.0) < 1e-9) == perfect, "another package has changed"
PYTHON
