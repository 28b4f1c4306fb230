#!/bin/bash
# sewar's uqi() gives nearly 1 for two pictures that have nothing in common.
#
# Expected: the universal image quality index of Wang and Bovik (2002): in each window 4 cov mean mean' divided by (var
# + var') (mean mean + mean' mean'). It is 0 where two pictures do not vary together, and negative for a negative.
# Seen with sewar 0.4.10: uqi() puts means over a window into the formula for sums over it. Products of means then stay
# in the covariance and in the variances, and outweigh them. Independent noise around one grey gets 0.98 instead of 0,
# and a picture and its negative get 0.96 instead of -1.
# Why it matters: uqi says little more than whether the brightness agrees. d_lambda, d_s and qnr are computed with it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    sewar==0.4.10 scipy==1.17.1 pillow==12.3.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import sewar

SIDE = 8


def index(first: np.ndarray, second: np.ndarray) -> float:
    """The index by its definition: the mean over all windows that lie in the picture."""
    a, b = (np.lib.stride_tricks.sliding_window_view(x.astype(float), (SIDE, SIDE)).reshape(-1, SIDE * SIDE)
            for x in (first, second))
    mean, other = a.mean(1), b.mean(1)
    covariance = (a * b).mean(1) - mean * other
    return float((4 * covariance * mean * other / ((a.var(1) + b.var(1)) * (mean**2 + other**2))).mean())


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("sewar", "scipy", "numpy")))
random = np.random.default_rng(0)
picture = random.integers(98, 159, (64, 96)).astype(np.uint8)  # grey 128 and noise around it
cases = {
    "itself": (picture, 1, 1),
    "other noise": (random.integers(98, 159, picture.shape).astype(np.uint8), 0, 0.9),
    "its negative": ((256 - picture.astype(int)).astype(np.uint8), -1, 0.9),
}
for name, (other, right, least) in cases.items():
    defined, seen = index(picture, other), float(sewar.uqi(picture, other, ws=SIDE))
    print(f"a picture and {name}: {seen:.3f}, by the definition {defined:.3f}")
    assert abs(defined - right) < 0.05
    assert least <= seen <= 1.000001, "the behaviour has changed"
PYTHON
