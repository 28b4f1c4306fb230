#!/bin/bash
# mikan-rs takes the distances between the voxels of an array in the opposite order of its axes.
#
# Expected: ArrayEvaluator for NumPy arrays takes spacing as the array's axes come, as medpy does, with which its
# results are said to be consistent; the documentation says "Spacing of the images", and of no other order.
# Seen with mikan-rs 0.1.4: the first number counts for the last axis. A prediction that reaches 6 voxels further along
# the last axis, with voxels of 1 x 2 x 3 mm, is 18 mm too long; the Hausdorff distance is 6. That is the order of
# SimpleITK's GetSpacing(), which belongs to images, whose axes come in the opposite order of their arrays'.
# Why it matters: scans have thick slices and fine pixels, so that nearly all distances in mm are wrong, and nothing
# shows it: numbers are of the right size.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mikan-rs==0.1.4 simpleitk==2.5.7 numpy==2.4.6 medpy==0.5.2 scipy==1.17.1
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from medpy.metric import binary
from mikan.metrics import ArrayEvaluator

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mikan-rs", "medpy", "numpy")))
spacing = (1.0, 2.0, 3.0)
truth = np.zeros((20, 24, 30), np.uint8)
truth[4:10, 4:10, 4:10] = 1
for axis, seen in ((0, 18), (1, 12), (2, 6)):
    place = [slice(4, 10)] * 3
    place[axis] = slice(4, 16)  # six voxels too long along this axis
    prediction = np.zeros_like(truth)
    prediction[tuple(place)] = 1
    found = ArrayEvaluator(truth, prediction, spacing).labels(1).metrics("hd")
    right = binary.hd(prediction, truth, voxelspacing=spacing)
    print(f"6 voxels of {spacing[axis]} mm too long along axis {axis}: {found} mm, medpy {right} mm")
    assert right == 6 * spacing[axis]
    assert found == seen, "the behaviour has changed"
PYTHON
