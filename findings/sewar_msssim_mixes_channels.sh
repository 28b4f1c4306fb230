#!/bin/bash
# sewar's msssim() mixes the colour channels with each other, so that RGB and BGR get two numbers.
#
# Expected: the smaller scales of multi-scale SSIM are made by averaging over 2 by 2 pixels, and channel is compared
# with channel, as sewar's ssim() does. The order of the channels does not matter then.
# Seen with sewar 0.4.10: the average goes over the channels, too: from the second scale on, each channel is half the
# one before it. Two pictures with an equal red and green, and blues that have nothing in common, get 0.90 as RGB and
# 0.23 as BGR, where the definition gives 0.66 for both.
# Why it matters: OpenCV reads BGR and Pillow RGB; the number tells which of them was used rather than how good a
# picture is. Errors of one channel are hidden by the others.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    sewar==0.4.10 scipy==1.17.1 pillow==12.3.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import sewar
from scipy import ndimage
from sewar.utils import Filter

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # sewar's own


def defined(first: np.ndarray, second: np.ndarray) -> float:
    """Multi-scale SSIM from sewar's ssim(), with scales that are averaged over height and width alone."""
    first, second, answer = first.astype(float), second.astype(float), complex(1)
    for number, weight in enumerate(WEIGHTS):
        window = {"fltr": Filter.GAUSSIAN, "sigma": 1.5, "ws": 11}
        both, contrast = sewar.ssim(first, second, MAX=255, fltr_specs=window)
        answer *= complex(both if number == len(WEIGHTS) - 1 else contrast) ** weight
        size = (2, 2, 1)[:first.ndim]
        first, second = (ndimage.uniform_filter(picture, size)[::2, ::2] for picture in (first, second))
    return answer.real


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("sewar", "scipy", "numpy")))
random = np.random.default_rng(0)
picture = np.kron(random.integers(0, 256, (24, 30, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # 192 by 240 pixels
other = picture.copy()
other[..., 2] = np.kron(random.integers(0, 256, (24, 30)), np.ones((8, 8)))  # another blue
for channel in range(3):  # grey pictures are right
    grey = picture[..., channel], other[..., channel]
    assert abs(float(sewar.msssim(*grey)) - defined(*grey)) < 1e-9
seen = []
for name, order in (("RGB", [0, 1, 2]), ("BGR", [2, 1, 0]), ("RBG", [0, 2, 1])):
    pair = picture[..., order], other[..., order]
    seen.append(float(sewar.msssim(*pair)))
    print(f"{name}: {seen[-1]:.3f}, by the definition {defined(*pair):.3f}")
    assert abs(defined(*pair) - defined(picture, other)) < 1e-9
assert max(seen) - min(seen) > 0.5, "the behaviour has changed"
PYTHON
