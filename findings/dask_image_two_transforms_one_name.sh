#!/bin/bash
# dask-image's affine_transform() and rotate() give one name to transforms that differ in order, mode or cval.
#
# Expected: two transforms of one picture, one with order=0 and one with order=1, are two pictures, whether they are
# computed apart or together. Likewise for mode and cval.
# Seen with dask-image 2026.5.0: the name of the result in dask's graph is made of picture, matrix, offset and shape
# only. As dask takes equal names for equal results, dask.compute() of both gives one of them twice, their difference
# is 0 everywhere, and a stack of them holds one twice. compute() of each alone is right.
# Why it matters: comparing interpolations, or computing what lies outside with one transform by cval=0 and cval=1, is
# answered with "no difference", and one of two results is replaced by the other without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    dask-image==2026.5.0 dask==2026.8.0 scipy==1.17.1 numpy==2.4.6 pims==0.7 tifffile==2026.3.3
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import dask
import dask.array
import numpy as np
from dask_image import ndinterp

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("dask-image", "dask", "scipy", "numpy")))
photo = np.random.default_rng(0).random((20, 30))
chunked = dask.array.from_array(photo, chunks=(10, 10))


def move(**options):
    return ndinterp.affine_transform(chunked, np.eye(2), offset=2.5, **options)


def turn(**options):
    return ndinterp.rotate(chunked, 30, reshape=False, **options)


for function in (move, turn):
    for first, second in (({"order": 0}, {"order": 1}), ({"mode": "constant"}, {"mode": "nearest"}),
                          ({"cval": 0}, {"cval": 1})):
        one, other = function(**first), function(**second)
        apart = np.abs(one.compute() - other.compute()).max()
        together = np.abs(np.subtract(*dask.compute(one, other))).max()
        stacked = dask.array.stack([one, other]).compute()
        print(f"{function.__name__} with {first} and {second}: they differ by up to {apart:.2f} if computed apart,")
        print(f"  by {together:.2f} together, by {np.abs(stacked[0] - stacked[1]).max():.2f} in a stack,", end=" ")
        print(f"by {abs(one - other).max().compute():.2f} as a difference")
        assert apart > 0.2
        assert together == 0 and np.array_equal(stacked[0], stacked[1]), "the behaviour has changed"
        assert abs(one - other).max().compute() == 0 and one.name == other.name, "the behaviour has changed"
PYTHON
