#!/bin/bash
# ensemble-boxes' soft_nms() returns the scores as they came, so that overlapping boxes keep theirs.
#
# Expected: Soft-NMS (arXiv:1704.04503) answers with lower scores for boxes that overlap a better one: times 1 - IoU
# (linear) or exp(-IoU * IoU / sigma) (Gaussian). That is all it does, as it removes boxes only near a score of 0.
# Seen with ensemble-boxes 1.0.9: the lowered scores decide which boxes are kept (above thresh), and the others come
# back with the scores that they had. Of two boxes with an IoU of 0.8 and scores 0.9 and 0.8, both come back with 0.9
# and 0.8, where 0.8 * exp(-0.64 / 0.5) = 0.222 and 0.8 * (1 - 0.8) = 0.16 are due. Nothing is said about it.
# Why it matters: the answer is that without any suppression: a second box on each object, with a high score, which an
# evaluation counts as a false one before those of other objects.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    ensemble-boxes==1.0.9 numpy==2.4.6 numba==0.68.1 llvmlite==0.50.0
PYTHONPATH="$folder" python3 - <<'PYTHON'
import importlib.metadata
import math

from ensemble_boxes import soft_nms

boxes = [[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.8]]]  # the second one is 0.8 of the first one
scores, labels, overlap, sigma = [[0.9, 0.8]], [[0, 0]], 0.8, 0.5
due = {
    "linear": 0.8 * (1 - overlap),
    "Gaussian": 0.8 * math.exp(-overlap * overlap / sigma),
}

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ensemble-boxes", "numpy", "numba")))
for method, (name, second) in enumerate(due.items(), 1):
    found = soft_nms(boxes, scores, labels, method=method, iou_thr=0.5, sigma=sigma, thresh=0.001)[1].tolist()
    print(f"{name}: scores {found}, due {[0.9, round(second, 3)]}")
    assert found == [0.9, 0.8], "the behaviour has changed"
    kept = [
        len(soft_nms(boxes, scores, labels, method=method, iou_thr=0.5, sigma=sigma, thresh=thresh)[1])
        for thresh in (second - 0.01, second + 0.01)
    ]
    print(f"    boxes with a threshold a little below and above {second:.3f}: {kept}")
    assert kept == [2, 1], "the behaviour has changed"
PYTHON
