#!/bin/bash
# solt leaves masks as they are if a transform's first sample had none: the picture is mirrored, its mask is not.
#
# Expected: a transform, or a Stream of them, treats all parts of a sample alike, whatever sample came before.
# Seen with solt 0.2.1: the first call stores the places of its parts in data_indices, which was None for "all". Parts
# behind the last place of that first sample are copied untransformed from then on. After a sample with a picture
# only, the mask of every later sample stays as it is; after a sample with one picture, so does the second of two.
# Calls in the other order are right. Transforms that change the size raise ValueError instead.
# Why it matters: one shows or tests the augmentation on a picture, and trains a segmentation network with the same
# object. Pictures and masks do not belong together, and nothing is said.
# Without it: data_indices=(0, 1), or a new transform.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    solt==0.2.1 torch==2.15.0 torchvision==0.29.2 opencv-python-headless==5.0.0.93 scipy==1.17.1 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from solt import Stream
from solt import transforms as slt

picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
mask = picture[..., 0].copy()
alone, both, pair = {"image": picture}, {"image": picture, "mask": mask}, {"images": [picture, picture]}


def mirrored(part: np.ndarray, of: np.ndarray) -> bool:
    """Whether a part is mirrored; it is mirrored or untouched."""
    part = part.reshape(of.shape)
    assert np.array_equal(part, of) != np.array_equal(part, of[:, ::-1]), "the behaviour has changed"
    return np.array_equal(part, of[:, ::-1])


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("solt", "numpy")))
for name, first, second, originals, seen in (
    ("picture and mask", None, both, (picture, mask), [True, True]),
    ("picture and mask after the same", both, both, (picture, mask), [True, True]),
    ("picture and mask after a picture", alone, both, (picture, mask), [True, False]),
    ("two pictures after one", alone, pair, (picture, picture), [True, False]),
):
    for transform in (slt.Flip(p=1, axis=1), Stream([slt.Flip(p=1, axis=1)])):
        if first is not None:
            transform(first, return_torch=False)
        parts = transform(second, return_torch=False).data
        found = [mirrored(part, of) for part, of in zip(parts, originals)]
        print(f"{type(transform).__name__}, {name}: mirrored {found}")
        assert found == seen, "the behaviour has changed"
PYTHON
