#!/bin/bash
# seg-metrics gives a prediction that misses the object wholly a surface distance of 0, which is that of a perfect one.
#
# Expected: where one mask is empty there is no surface to measure to: the Hausdorff distance is infinite or not a
# number, or an error is raised, and never that of a perfect prediction.
# Seen with seg-metrics 1.2.8: hd, hd95, msd (mean), mdsd (median) and stdsd are all 0 for an empty prediction, and
# for a prediction where there is no object. A prediction that is one column off has an hd of 1, and is worse. Nothing
# is said if only distances are asked for; with dice, a warning speaks of precision and recall. The documentation is
# silent.
# Why it matters: the mean distance over a data set gets better with each object that a network misses.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    medutils==0.1.21 SimpleITK==2.5.3 numpy==2.4.6 pandas==2.3.3 matplotlib==3.10.8 tqdm==4.67.1 pingouin==0.7.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps seg-metrics==1.2.8
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import logging

import numpy as np
from seg_metrics.seg_metrics import write_metrics

names = ["hd", "hd95", "msd", "mdsd", "stdsd"]
said = []
logging.basicConfig(level=logging.WARNING, handlers=[logging.Handler()])
logging.getLogger().handlers[0].emit = lambda record: said.append(record.getMessage())

empty = np.zeros((32, 32), dtype=np.uint8)
square, shifted = empty.copy(), empty.copy()
square[10:20, 10:20] = 1
shifted[10:20, 11:21] = 1

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("seg-metrics", "SimpleITK", "numpy")))
for case, truth, prediction, hausdorff in (
    ("perfect", square, square, 0),
    ("missed", square, empty, 0),
    ("invented", empty, square, 0),
    ("a column off", square, shifted, 1),
):
    found = write_metrics(labels=[1], gdth_img=truth, pred_img=prediction, metrics=list(names))[0]
    found = {name: round(float(found[name][0]), 3) for name in names}
    dice = 2 * float((truth & prediction).sum()) / float(truth.sum() + prediction.sum())
    print(f"{case}: {found}, dice by hand {dice:.2f}")
    assert found["hd"] == hausdorff and (hausdorff or not any(found.values())), "the behaviour has changed"
print(f"warnings: {said}")
assert not said, "the behaviour has changed"
PYTHON
