#!/bin/bash
# Augmentor's gaussian_distortion() bends a picture and its mask in two different ways.
#
# Expected: an operation treats a picture and its masks alike, as random_distortion() does, and as masks are there for:
# a mask that is the same image as the picture is the same image afterwards.
# Seen with Augmentor 0.2.12: gaussian_distortion() draws its random shifts anew for each image of the set, and adds
# them to those of the images before: the mask is bent once more than the picture, and a third image once more still.
# Nothing is said.
# Why it matters: the outline of each object in the mask lies beside the one in the picture, by about as much as the
# objects were bent at all. A network for segmentation learns from these pairs.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    Augmentor==0.2.12 numpy==2.4.6 Pillow==13.0.0 tqdm==4.70.1
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import random

import Augmentor
import numpy as np

rows, columns = np.mgrid[:96, :96]
disc = ((rows - 48) ** 2 + (columns - 48) ** 2 < 30**2).astype(np.uint8) * 255  # the picture, and its mask
settings = {
    "random_distortion": {},
    "gaussian_distortion": {"corner": "bell", "method": "in"},
}
print(f"Augmentor {importlib.metadata.version('Augmentor')}")
for name, more in settings.items():
    random.seed(0)
    np.random.seed(0)
    pipeline = Augmentor.DataPipeline([[disc, disc, disc]])
    getattr(pipeline, name)(probability=1, grid_width=6, grid_height=6, magnitude=8, **more)
    overlaps, bent = [], []
    for _ in range(20):
        picture, mask, third = (image >= 128 for image in pipeline.sample(1)[0])
        overlaps.append((picture & mask).sum() / (picture | mask).sum())
        bent.append([(image != (disc > 0)).sum() for image in (picture, mask, third)])
    print(f"{name}: IoU of mask and picture {np.mean(overlaps):.3f} in the mean, {min(overlaps):.3f} at least")
    print(f"  pixels that changed, in picture, mask and third image: {np.mean(bent, axis=0).round(1).tolist()}")
    if name == "random_distortion":
        assert min(overlaps) == 1
    else:
        picture, mask, third = np.mean(bent, axis=0)
        assert max(overlaps) < 1 and picture < mask < third, "the behaviour has changed"
PYTHON
