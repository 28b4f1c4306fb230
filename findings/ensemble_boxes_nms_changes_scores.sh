#!/bin/bash
# ensemble-boxes' nms() and soft_nms() with weights change the scores of the caller: a second call answers otherwise.
#
# Expected: two equal calls give the same boxes, as those of weighted_boxes_fusion() and non_maximum_weighted() do.
# Seen with ensemble-boxes 1.0.9: each call multiplies the scores in the caller's list by the weights, in place. Of
# two boxes on one object, with scores 0.4 and 0.9 and weights 2 and 1, the first call of nms() keeps the second box,
# with 0.9 / 3 = 0.3; the second call the first box, with 0.4 * 2 / 3 * 2 / 3 = 0.178; a third one keeps it with
# 0.119. Nothing is said, and the docstring only says that the weights are those of the networks. Without weights all
# is right.
# Why it matters: one tries several iou_thr, or one method after another, on the same detections. Each try is of other
# scores, and the later ones fall under each threshold.
# Without it: hand copies of the scores, as in the last line below.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    ensemble-boxes==1.0.9 numpy==2.4.6 numba==0.68.1 llvmlite==0.50.0
PYTHONPATH="$folder" python3 - <<'PYTHON'
import copy
import importlib.metadata

import numpy as np
from ensemble_boxes import nms, non_maximum_weighted, soft_nms, weighted_boxes_fusion

boxes = [[[0.1, 0.1, 0.5, 0.5]], [[0.1, 0.1, 0.5, 0.51]]]
labels = [[0], [0]]
given = [[0.4], [0.9]]

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ensemble-boxes", "numpy", "numba")))
for method in (nms, soft_nms, weighted_boxes_fusion, non_maximum_weighted):
    scores = copy.deepcopy(given)
    answers = []
    for _ in range(3):
        found = method(boxes, scores, labels, weights=[2, 1], iou_thr=0.5)
        answers.append([(round(float(box[3]), 3), round(float(score), 3)) for box, score in zip(found[0], found[1])])
    print(f"{method.__name__}: lower edge and score {answers}, scores of the caller {[float(s[0]) for s in scores]}")
    changed = method in (nms, soft_nms)
    assert (answers[0] != answers[1]) == changed and (scores != given) == changed, "the behaviour has changed"
    if method is nms:
        assert answers == [[(0.51, 0.3)], [(0.5, 0.178)], [(0.5, 0.119)]], "the behaviour has changed"
answers = [nms(boxes, copy.deepcopy(given), labels, weights=[2, 1], iou_thr=0.5)[1].tolist() for _ in range(3)]
print(f"nms with copies: scores {answers}")
assert np.allclose(answers, 0.3), "the behaviour has changed"
PYTHON
