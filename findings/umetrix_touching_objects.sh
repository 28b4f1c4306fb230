#!/bin/bash
# umetrix joins the objects of a mask that touch, although each has its number, and so never sees wrong borders.
#
# Expected: arrays of numbered objects ("An array containing labeled objects") are compared object by object.
# Seen with umetrix 0.2.0: it takes everything above 0 as one, and numbers the connected parts itself. Two cells that
# touch are one object in the truth; a prediction that makes one cell of them, or cuts them elsewhere, has a Jaccard
# index and an IoU of 1. Objects that touch at a corner only stay apart. Nothing is raised or warned of.
# Why it matters: masks of cells are numbered because cells touch. The commonest mistake of a segmentation, that it
# does not part neighbours, costs nothing, and a network that learned to part them gets no better mark.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    umetrix==0.2.0 numpy==2.4.6 scikit-image==0.26.0 scikit-learn==1.9.1 scipy==1.17.1 pandas==3.1.1 matplotlib==3.11.2
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import umetrix


def jaccard(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Found objects as a part of all objects, where a found one has an IoU above a half."""
    pairs = [(truth == a, prediction == b) for a in np.unique(truth)[1:] for b in np.unique(prediction)[1:]]
    found = sum((a & b).sum() / (a | b).sum() > 0.5 for a, b in pairs)
    return found / (len(np.unique(truth)) - 1 + len(np.unique(prediction)) - 1 - found)


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("umetrix", "scikit-image", "numpy")))
truth = np.zeros((60, 80), np.uint8)
truth[10:40, 10:30] = 1
truth[10:40, 30:50] = 2
merged = (truth > 0).astype(np.uint8)
across = merged.copy()
across[25:40, 10:50] = 2  # two halves, one above the other instead of side by side
apart = np.zeros_like(truth)
apart[10:40, 10:28] = 1
apart[10:40, 32:50] = 2
for name, prediction, right in (("as one", merged, 0), ("cut the other way", across, 0), ("the same", truth, 1)):
    result = umetrix.calculate(truth, prediction, strict=True, iou_threshold=0.5)
    counts = (result.n_true_labels, result.n_pred_labels, result.n_true_positives)
    iou = [float(value) for value in result.per_object_IoU]
    print(f"two cells {name}: {counts[0]} true, {counts[1]} predicted, {counts[2]} found, IoU {iou}; right is {right}")
    assert jaccard(truth, prediction) == right
    assert counts == (1, 1, 1) and iou == [1], "the behaviour has changed"
result = umetrix.calculate(apart, apart, strict=True, iou_threshold=0.5)
assert (result.n_true_labels, result.n_true_positives) == (2, 2)  # right where a gap lies between them
PYTHON
