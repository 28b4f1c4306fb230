#!/bin/bash
# empatches gives batches for PyTorch back with height and width exchanged.
#
# Expected: merge_batch() undoes patch_batch(): with typ="torch" the result has the shape B, C, H, W, as its
# documentation says.
# Seen with empatches 0.2.3: it has the shape B, C, W, H, so that each picture is mirrored at its diagonal.
# patch_batch() cuts it right; merge_batch() exchanges the axes wrongly. With typ="tf" the same patches give the right
# batch.
# Why it matters: pictures and maps for networks are square mostly. Then the shape is right, and the merged predictions
# lie in other places than the objects, without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    empatches==0.2.3 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from empatches import BatchPatching

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("empatches", "numpy")))
for height, width in ((64, 64), (48, 80)):
    batch = np.random.default_rng(0).integers(0, 256, (2, 3, height, width)).astype(np.float32)
    # Patches are lists of pictures with the channels last in both modes. PyTorch's tensors would be cut to the same.
    cutter = BatchPatching(patchsize=16, stride=16, typ="tf")
    patches, places = cutter.patch_batch(batch.transpose(0, 2, 3, 1))
    assert (cutter.merge_batch(patches, places) == batch.transpose(0, 2, 3, 1)).all()
    merged = BatchPatching(patchsize=16, stride=16, typ="torch").merge_batch(patches, places)
    turned = merged.shape == batch.swapaxes(2, 3).shape and bool((merged == batch.swapaxes(2, 3)).all())
    print(f"{batch.shape} comes back as {merged.shape}, mirrored at the diagonal: {turned}")
    assert turned and (merged.shape != batch.shape or (merged != batch).any()), "the behaviour has changed"
PYTHON
