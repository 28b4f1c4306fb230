#!/bin/bash
# mahotas' labeled_max() gives 2.2e-308 as the largest number of each region that has negative numbers only.
#
# Expected: labeled_max(picture, labels)[i] is the largest number of the picture in region i, as its documentation says
# with numpy's formula.
# Seen with mahotas 1.4.19: for float64 the answer is 2.2250738585072014e-308, and for float32 1.1754944e-38, in each
# region without a positive number. That is the smallest positive number of the type, with which the search begins. A
# region with a positive number is right, and so are labeled_min() and pictures of whole numbers.
# Why it matters: logits, logarithms of probabilities, normalised photos and Hounsfield units as floats are negative
# over whole objects. Their maximum comes out as practically 0, which is above all that is in the picture.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mahotas==1.4.19 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import mahotas
import numpy as np

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mahotas", "numpy")))
labels = np.array([[0, 0, 1, 1], [2, 2, 1, 3], [2, 2, 3, 3]])
scores = np.array([[-5.5, -6, -3, -2.5], [-8, -9, -4, -1], [-7, -9.5, 2, 0.5]])
right = [float(scores[labels == region].max()) for region in range(4)]
assert right == [-5.5, -2.5, -7, 2]
for kind in (np.float32, np.float64):
    found = mahotas.labeled.labeled_max(scores.astype(kind), labels)
    print(f"{np.dtype(kind)}: {found.tolist()}, the largest numbers are {right}")
    tiny = float(np.finfo(kind).tiny)
    assert found.tolist() == [tiny, tiny, tiny, 2], "the behaviour has changed"
    smallest = mahotas.labeled.labeled_min(scores.astype(kind), labels)
    assert smallest.tolist() == [float(scores[labels == region].min()) for region in range(4)]
whole = (scores * 2).astype(np.int32)
assert mahotas.labeled.labeled_max(whole, labels).tolist() == [int(whole[labels == each].max()) for each in range(4)]
PYTHON
