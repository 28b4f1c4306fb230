#!/bin/bash
# Augmentor's random_erasing() writes random class numbers into the masks.
#
# Expected: of a picture and its mask, random_erasing() covers a rectangle of the picture with noise, as in the paper it
# names. The mask keeps its classes there, or says background.
# Seen with Augmentor 0.2.12: the rectangle of the mask gets noise of its own, numbers from 0 to 254 for masks of two
# classes, and the mask that goes on from there has them. DataPipeline and ground_truth() alike. Nothing is said.
# Why it matters: each erased rectangle teaches a network for segmentation a few hundred pixels of random classes. Where
# there are many classes, as in ADE20K with 150, most of these numbers are valid, and no loss function complains.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    Augmentor==0.2.12 numpy==2.4.6 Pillow==13.0.0 tqdm==4.70.1
PYTHONPATH="$folder/packages" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import pathlib
import random
import sys

import Augmentor
import numpy as np
from PIL import Image

folder = pathlib.Path(sys.argv[1])
mask = np.zeros((64, 64), np.uint8)
mask[16:48, 16:48] = 1
picture = np.repeat(mask[..., np.newaxis] * 200, 3, axis=2)
print(f"Augmentor {importlib.metadata.version('Augmentor')}, mask with the classes {np.unique(mask).tolist()}")


def check(name: str, image: np.ndarray, label: np.ndarray) -> None:
    """The classes of the mask after the operation."""
    assert image.shape == picture.shape and label.shape == mask.shape
    erased = (image != picture).any(axis=2)
    found = np.unique(label)
    print(f"{name}: {erased.sum()} pixels of the picture erased, the mask has {len(found)} classes: {found[:8]}...")
    assert len(found) > 20, "the behaviour has changed"
    assert np.array_equal(label[~erased & (label == mask)], mask[~erased & (label == mask)])
    assert (label[~erased] == mask[~erased]).mean() > 0.99


for seed in range(3):
    random.seed(seed)
    np.random.seed(seed)
    pipeline = Augmentor.DataPipeline([[picture.copy(), mask.copy()]])
    pipeline.random_erasing(probability=1, rectangle_area=0.5)
    check("DataPipeline", *pipeline.sample(1)[0])

for name, array in (("photos", picture), ("masks", mask)):
    (folder / name).mkdir()
    Image.fromarray(array).save(folder / name / "1.png")
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    pipeline = Augmentor.Pipeline(str(folder / "photos"), output_directory=str(folder / "output"))
    pipeline.ground_truth(str(folder / "masks"))
    pipeline.random_erasing(probability=1, rectangle_area=0.5)
    pipeline.sample(1, multi_threaded=False)
written = {path.name.startswith("_groundtruth"): np.asarray(Image.open(path)) for path in (folder / "output").iterdir()}
check("ground_truth()", written[False], written[True])
PYTHON
