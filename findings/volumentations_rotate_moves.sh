#!/bin/bash
# volumentations-3D's Rotate moves a volume of an even size by half a voxel, and blurs it, at an angle of 0 as well.
#
# Expected: a rotation about the centre of the volume. By 0 degrees nothing changes.
# Seen with volumentations-3D 1.0.4: the centre is rounded to a whole voxel. With 8 voxels it is taken for 4 instead of
# 3.5: each value becomes the mean of eight neighbours, and masks, which take the nearest voxel, move by a whole voxel.
# With 7 voxels it is 4 instead of 3, and both move by a whole voxel. 5, 9 and 13 voxels are right.
# Why it matters: volumes are 64, 96 or 128 voxels wide. A structure of one voxel loses seven eighths of its contrast,
# and masks lie half a voxel beside the picture on each axis.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    volumentations-3D==1.0.4 opencv-python==5.0.0.93 scikit-image==0.26.0 scipy==1.17.1 pillow==12.3.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 -W ignore - <<'PYTHON'
import importlib.metadata

import numpy as np
from volumentations import Compose, Rotate

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("volumentations-3D", "scipy", "numpy")))
for shape, offsets in (((5, 9, 13), (0.0, 0.0)), ((6, 8, 64), (0.5, 1.0)), ((7, 11, 15), (1.0, 1.0))):
    ramp = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")).astype(np.float32)
    moved = []
    for axis in range(3):  # a picture whose values are the places of its voxels on one axis
        change = Compose([Rotate((0, 0), (0, 0), (0, 0), p=1)], p=1)(image=ramp[axis].copy(), mask=ramp[axis].copy())
        inner = (slice(1, -1),) * 3
        moved.append(tuple(float((change[what] - ramp[axis])[inner].mean()) for what in ("image", "mask")))
    print(f"{shape} rotated by 0 degrees: (picture, mask) moved on each axis by {moved}")
    assert moved == [offsets] * 3, "the behaviour has changed"
PYTHON
