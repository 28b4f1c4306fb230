#!/bin/bash
# mapcalc takes detections in the order in which they are given, and never looks at their scores.
#
# Expected: average precision as in Pascal VOC, which the source names: detections are sorted by their scores, the
# surest first. The documentation asks for scores, and calls them optional, without a word on the order.
# Seen with mapcalc 0.2.2: the same boxes, labels and scores give another mAP for each order of the rows, and scores
# that are turned round give the same one. Nothing in the package reads the scores.
# Why it matters: detectors give their boxes by class, by place or by image. Then the mAP belongs to no ranking, and a
# detector whose scores are random cannot be told from one whose scores are perfect.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mapcalc==0.2.2 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

from mapcalc import calculate_map, calculate_map_range

OBJECTS = [[10 * number, 0, 10 * number + 8, 8] for number in range(4)]  # four objects of one class
FALSE = [[10 * number, 50, 10 * number + 8, 58] for number in range(4)]  # four places where there is nothing


def answer(rows: list[tuple[list[int], float]]) -> tuple[float, float]:
    """mAP at 0.5 and over ten thresholds of detections with their scores."""
    truth = {"boxes": OBJECTS, "labels": [1] * len(OBJECTS)}
    result = {"boxes": [box for box, _ in rows], "labels": [1] * len(rows), "scores": [score for _, score in rows]}
    return round(float(calculate_map(truth, result, 0.5)), 4), round(
        float(calculate_map_range(truth, result, 0.5, 0.95, 0.05)), 4)


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mapcalc", "numpy")))
good = [(box, 0.9 - 0.01 * place) for place, box in enumerate(OBJECTS)]
bad = [(box, 0.2 - 0.01 * place) for place, box in enumerate(FALSE)]
# Objects have the scores 0.90 to 0.87, false alarms 0.20 to 0.17: all objects come first, so AP is 1 in any order.
first, last = answer(good + bad), answer(bad + good)
print(f"all objects surer than the false alarms, AP is 1: {first[0]} with the objects first, {last[0]} with them last")
assert first == (1.0, 1.0)
assert last == (0.5, 0.5), "the behaviour has changed"
# Turned round, the false alarms are the surest: precision at the objects is 1/5, 2/6, 3/7, 4/8, and AP is 0.5.
turned = [(box, 1 - score) for box, score in good + bad]
print(f"all false alarms surer than the objects, AP is 0.5: {answer(turned)[0]} with the objects first")
assert answer(turned) == first, "the behaviour has changed"
PYTHON
