#!/bin/bash
# empatches' mode "avg" does not average overlapping patches: the last one counts half, and zeros do not count.
#
# Expected: the mean of all patches that cover a pixel, as the documentation says.
# Seen with empatches 0.2.3: each patch is averaged with what is there already, so that of four patches the last counts
# 1/2, and the others 1/4, 1/8 and 1/8. Where the average so far is 0, the next patch is taken as it is: probabilities
# 0 and 1 give 1, and 1 and 0 give 0.5.
# Why it matters: overlap is there so that each tile has a say. A prediction of 0, which means background, has none if
# it comes first, and the result depends on the order in which tiles are cut.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    empatches==0.2.3 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from empatches import EMPatches

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("empatches", "numpy")))
tool = EMPatches()
patches, places = tool.extract_patches(np.zeros((6, 6), np.float32), patchsize=4, stride=2)
assert len(patches) == 4 and all(top <= 2 < 4 <= bottom for top, bottom, _, _ in places)  # all four hold the middle
for values, seen in (((8, 8, 8, 8), 8), ((8, 16, 32, 64), 43), ((64, 32, 16, 8), 20), ((0, 0, 0, 1), 1),
                     ((1, 0, 0, 0), 0.125)):
    answers = [np.full((4, 4), value, np.float32) for value in values]
    middle = tool.merge_patches(answers, places, mode="avg")[2:4, 2:4]
    print(f"patches of {values}: {float(middle[0, 0])} where all four overlap, their mean is {np.mean(values)}")
    assert (middle == seen).all(), "the behaviour has changed"
PYTHON
