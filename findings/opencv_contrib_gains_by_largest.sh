#!/bin/bash
# xphoto's applyChannelGains divides the three gains by the largest of them before it applies them.
#
# Expected: pixels times the gain of their channel, rounded, and no more than white; the documentation names "gain for
# the B channel", G and R, and "channel gains, which is the last step of multiple white balance algorithms".
# Seen with opencv-contrib-python-headless 5.0.0.93: gains of 2 for all three leave the picture as it is, and so do
# gains of one half. Gains of 1.5, 0.5 and 2 give what 0.75, 0.25 and 1 give by hand, so that nothing ever becomes
# lighter. It is so for 8 and for 16 bits.
# Why it matters: gains that were measured on a grey card, or that lighten photos of a dark camera, are applied as
# others, and the picture that comes out is darker than a network was trained on.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    opencv-contrib-python-headless==5.0.0.93 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import cv2
import numpy as np

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("opencv-contrib-python-headless", "numpy")))
generator = np.random.default_rng(0)
for depth, brightest in ((np.uint8, 255), (np.uint16, 65535)):
    picture = generator.integers(0, brightest // 3, (7, 5, 3)).astype(depth)  # so dark that no gain here makes it white
    for gains in ((2.0, 2.0, 2.0), (0.5, 0.5, 0.5), (1.5, 0.5, 2.0)):
        found = cv2.xphoto.applyChannelGains(picture.copy(), *gains).astype(float)
        by_hand, by_largest = picture * np.array(gains), picture * (np.array(gains) / max(gains))
        off, off_by_largest = (np.abs(found - each).max() for each in (by_hand, by_largest))
        print(f"{picture.dtype}, gains {gains}: off by up to {off:g}, by {off_by_largest:g} if divided by the largest")
        assert off > brightest / 20, "the behaviour has changed"
        assert off_by_largest <= 1, "the behaviour has changed"
PYTHON
