#!/bin/bash
# medpy's obj_tpr() gives the precision of found objects, and obj_fpr() the part of missed ones.
#
# Expected: obj_tpr(result, reference) is the part of the objects of the reference that the result has found, and
# obj_fpr(result, reference) the part of the objects of the result that the reference does not have, as its description
# says under "Returns", and as the examples there show.
# Seen with medpy 0.5.2: both divide by the objects of the other image. A result that finds the one lesion and nine
# things that are none has obj_fpr 0, the "ideal score", and obj_tpr 0.1; one that misses nine of ten lesions, and says
# nothing wrong, has obj_tpr 1 and obj_fpr 0.9. The examples of the description come out exchanged. Nothing is said.
# Why it matters: the two are how detection of lesions is judged from segmentations. A model that paints everything is
# reported as free of false alarms, and one that finds almost nothing as complete.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    medpy==0.5.2 numpy==2.4.6 scipy==1.17.1 SimpleITK==2.5.7
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import re

import numpy as np
from medpy.metric.binary import obj_fpr, obj_tpr
from scipy.ndimage import label


def image(objects: list[int]) -> np.ndarray:
    """Objects of four pixels, at the given places of a row."""
    mask = np.zeros((4, 60), bool)
    for place in objects:
        mask[1:3, 6 * place + 1 : 6 * place + 3] = True
    assert label(mask)[1] == len(objects)
    return mask


def rates(result: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The rates by counting: each object of one image overlaps with one of the other at most."""
    objects, found = label(result)
    lesions, number = label(reference)
    detected = sum(bool(result[lesions == each].any()) for each in range(1, number + 1))
    wrong = sum(not reference[objects == each].any() for each in range(1, found + 1))
    return detected / number, wrong / found


print(f"medpy {importlib.metadata.version('medpy')}")
everything = list(range(10))
for what, result, reference, right, seen in (
    ("finds the lesion, and nine things that are none", everything, [0], (1, 0.9), (0.1, 0)),
    ("misses nine of ten lesions", [0], everything, (0.1, 0), (1, 0.9)),
    ("finds three of four, and two things that are none", [0, 1, 2, 8, 9], [0, 1, 2, 3], (0.75, 0.4), (0.6, 0.25)),
):
    masks = image(result), image(reference)
    found = obj_tpr(*masks), obj_fpr(*masks)
    print(f"{what}: obj_tpr {found[0]:.2f}, should be {right[0]:.2f}; obj_fpr {found[1]:.2f}, should be {right[1]:.2f}")
    assert np.allclose(rates(*masks), right)
    assert np.allclose(found, seen), "the behaviour has changed"

assert "distinct binary objects in ``results`` have no" in re.sub(r"\s+", " ", obj_fpr.__doc__)
three, two = np.array([1, 0, 1, 0, 1]), np.array([1, 0, 1, 0, 0])  # the example of the description
found = obj_fpr(two, three), obj_fpr(three, two)
print(f"example of obj_fpr: {found[0]:.2f} and {found[1]:.2f}, in the description 0.0 and 0.33")
assert "obj_fpr(arr1, arr2)\n    0.0\n    >>> obj_fpr(arr2, arr1)\n    0.3333333333333333" in obj_fpr.__doc__
assert np.allclose(found, (1 / 3, 0)), "the behaviour has changed"
PYTHON
