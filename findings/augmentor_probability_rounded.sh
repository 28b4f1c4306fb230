#!/bin/bash
# Augmentor performs operations with another probability than the one it is given.
#
# Expected: probability is how often an operation is performed: for 1 of 100 pictures with 0.01, for half of them with
# 0.5.
# Seen with Augmentor 0.2.12: a random number is rounded to one digit, and the operation is performed if it is not
# larger than the probability: 0.01 gives 5 of 100, five times as many as asked, 0.1 gives 15, and 0.5 gives 55. 0.1 and
# 0.19 are the same. sample(), process(), DataPipeline and the Keras generators do so; torch_transform() does not.
# Why it matters: a rare, harsh operation, such as an inversion for 1 of 100, comes five times as often, and what is
# found out with one way of using the package does not hold for the other.
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
from PIL import Image

picture = np.zeros((8, 8), np.uint8)
picture[:, :3] = 255  # a flip is seen
number = 20000
print(f"Augmentor {importlib.metadata.version('Augmentor')}, {number} pictures each")
for probability, seen in ((0.01, 0.05), (0.1, 0.15), (0.19, 0.15), (0.5, 0.55), (0.9, 0.95), (1, 1)):
    random.seed(0)
    pipeline = Augmentor.DataPipeline([[picture]])
    pipeline.flip_left_right(probability=probability)
    flipped = np.mean([not np.array_equal(pipeline.sample(1)[0][0], picture) for _ in range(number)])
    transform = Augmentor.Pipeline()
    transform.flip_left_right(probability=probability)
    transform, image = transform.torch_transform(), Image.fromarray(picture)
    right = np.mean([not np.array_equal(np.asarray(transform(image)), picture) for _ in range(number)])
    print(f"probability {probability}: {flipped:.3f} flipped, by torch_transform() {right:.3f}")
    assert abs(right - probability) < 0.02
    assert abs(flipped - seen) < 0.02, "the behaviour has changed"
PYTHON
