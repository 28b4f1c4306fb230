#!/bin/bash
# scikit-image's montage(images, rescale_intensity=True) stretches the contrast of the images that it is given.
#
# Expected: a function that lays images side by side leaves them as they are; rescale_intensity is said to stretch them
# for the montage, and the function returns a new array.
# Seen with scikit-image 0.26.0: the stretched images are written into the array of the caller, in grey and in colour. A
# batch with levels from 100 to 115 has levels from 0 to 255 afterwards. With rescale_intensity=False, or from a list of
# images, nothing is changed.
# Why it matters: one looks at a batch, or logs it, before it goes on into training or evaluation, which then see other
# images than without the look.
# Without it: montage(images.copy(), rescale_intensity=True).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import skimage
from skimage.util import montage

grey = np.arange(100, 116, dtype=np.uint8).reshape(1, 4, 4)
colour = np.stack([grey] * 3, axis=-1)
print(f"scikit-image {skimage.__version__}, levels {grey.min()} to {grey.max()}")
for name, images, axis in (("grey", grey, None), ("colour", colour, -1)):
    for rescale, as_list, changed in ((False, False, False), (True, True, False), (True, False, True)):
        batch = images.copy()
        shown = montage(list(batch) if as_list else batch, rescale_intensity=rescale, channel_axis=axis)
        kind = "a list" if as_list else "an array"
        print(f"{name}, {kind}, rescale_intensity={rescale}: levels afterwards {batch.min()} to {batch.max()}")
        assert (shown.min(), shown.max()) == ((0, 255) if rescale else (100, 115)), "the behaviour has changed"
        assert np.array_equal(batch, images) != changed, "the behaviour has changed"
        assert (batch.min(), batch.max()) == ((0, 255) if changed else (100, 115)), "the behaviour has changed"
PYTHON
