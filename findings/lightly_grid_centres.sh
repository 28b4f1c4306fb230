#!/bin/bash
# lightly gives the centres of a crop's cells for VICRegL too far apart, so that the last ones lie outside of the crop.
#
# Expected: the grid that RandomResizedCropAndFlip returns beside a crop holds the "coordinates of the center of each
# cell in the original image space": for 7 cells in 70 pixels 5, 15 and so on to 65.
# Seen with lightly 1.6.0: 7 points are spread from border to border, and half a cell is added, which gives 5, 16.7 and
# so on to 75. The error grows with the crop and to the right and bottom. A small crop that lies inside of the last
# column of cells of the whole picture is nearest to the column before it, in which it has no pixel.
# Why it matters: VICRegLLoss pairs the features of two crops by the nearest centre, so that it pulls features of
# different parts of a picture together.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    lightly==1.6.0 torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 -W ignore - <<'PYTHON'
import importlib.metadata

import torch
from lightly.transforms.random_crop_and_flip_with_grid import Location, RandomResizedCropAndFlip
from PIL import Image

CELLS = 7
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("lightly", "torch")))
photo = Image.new("RGB", (70, 70))
for flip in (False, True):
    transform = RandomResizedCropAndFlip(CELLS, 70, 1.0, 1.0, hf_prob=float(flip), vf_prob=0.0)
    seen = transform(photo)[1][0, :, 0]
    right = torch.arange(5.0, 70.0, 10.0)
    right = right.flip(0) if flip else right
    print(f"whole photo of 70 pixels, mirrored {flip}: {[round(x, 1) for x in seen.tolist()]}, right {right.tolist()}")
    spread = torch.linspace(0.0, 70.0, CELLS) + 5
    assert torch.allclose(seen, spread.flip(0) if flip else spread), "the behaviour has changed"
    assert seen.max() > 70, "the behaviour has changed"

# The whole photo of 224 pixels has cells of 32 pixels. A crop from 196 to 217 lies in the last one, from 192 to 224.
transform = RandomResizedCropAndFlip(CELLS)
whole, small = (
    transform.location_to_NxN_grid(Location(start, start, size, size, image_height=224, image_width=224))
    for start, size in ((0, 224), (196, 21))
)
cell = (whole[0, :, 0][None] - small[0, :, 0][:, None]).abs().argmin(1)
true_whole, true_small = torch.arange(16.0, 224.0, 32.0), torch.arange(197.5, 217.0, 3.0)
true_cell = (true_whole[None] - true_small[:, None]).abs().argmin(1)
print(f"nearest column of the whole photo for the columns of the crop: {cell.tolist()}, right {true_cell.tolist()}")
assert true_cell.tolist() == [6] * CELLS and cell.tolist() == [5] * CELLS, "the behaviour has changed"
PYTHON
