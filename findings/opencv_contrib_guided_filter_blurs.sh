#!/bin/bash
# OpenCV's guidedFilter() is a plain blur for a smooth colour guide from 0 to 1, as soon as eps is below 0.01.
#
# Expected: the filter keeps edges whose variance is above eps; with a smaller eps, more of the picture stays as it is.
# A guide from 0 to 1 with eps, and one from 0 to 255 with 255 * 255 * eps, give the same picture, as in the formulas.
# Seen with opencv-contrib-python-headless 5.0.0.93: with a float32 guide of three channels from 0 to 1 the answer is
# the same for each eps from 0.001 on down: a box filter, twice. At 0 to 255 it is right, and so is a grey guide. If eps
# is below 0.01, a determinant below 0.000001 of the matrix of variances is replaced by 1, which makes the slopes 0.
# Variances of 0.01, which are edges of 25 grey levels, have such a determinant already.
# Why it matters: 0 to 1 and eps from 0.001 to 0.000001 is what papers and examples use, for alpha mattes and depth
# maps. Where the finest edges are to be kept there are none left: up to 25 grey levels are off here.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    opencv-contrib-python-headless==5.0.0.93 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import cv2
import numpy as np

RADIUS = 3
cv2.setNumThreads(1)
names = ("opencv-contrib-python-headless", "numpy")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))


def mean(picture: np.ndarray) -> np.ndarray:
    """The mean of the square around each pixel, with the border that guidedFilter() uses."""
    size = (2 * RADIUS + 1, 2 * RADIUS + 1)
    return cv2.blur(np.ascontiguousarray(picture), size, borderType=cv2.BORDER_REFLECT)


def by_hand(photo: np.ndarray, eps: float) -> np.ndarray:
    """The guided filter with a colour guide, which is the photo itself, from its formulas in float64."""
    photo = photo.astype(np.float64)
    means = mean(photo)
    variances = np.empty((*photo.shape[:2], 3, 3))
    for row in range(3):
        for column in range(3):
            product = mean(photo[..., row] * photo[..., column])
            variances[..., row, column] = product - means[..., row] * means[..., column]
    slopes = np.linalg.solve(variances + eps * np.eye(3), variances)
    answer = np.empty_like(photo)
    for channel in range(3):
        slope = slopes[..., channel]
        offset = means[..., channel] - (slope * means).sum(axis=-1)
        answer[..., channel] = (mean(slope) * photo).sum(axis=-1) + mean(offset)
    return answer


noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
photo = (cv2.GaussianBlur(noise, (0, 0), 2) / 255).astype(np.float32)
blurred = mean(mean(photo))
for eps in (0.1, 0.01, 0.001, 0.0001, 0.000001):
    right = by_hand(photo, eps)
    small = cv2.ximgproc.guidedFilter(photo, photo, RADIUS, eps)
    large = cv2.ximgproc.guidedFilter(photo * 255, photo * 255, RADIUS, eps * 255 ** 2) / 255
    errors = [np.abs(each - right).max() * 255 for each in (small, large)]
    print(f"eps {eps}: with 0 to 1 up to {errors[0]:.2f} grey levels off, with 0 to 255 {errors[1]:.2f};", end=" ")
    print(f"up to {np.abs(small - blurred).max() * 255:.2f} from a box filter, twice")
    assert errors[1] < 0.01
    if eps > 0.001:
        assert errors[0] < 0.01, "the behaviour has changed"
    else:
        assert errors[0] > 15 and np.allclose(small, blurred, atol=1e-4), "the behaviour has changed"
grey = photo[..., 1].copy()
answers = [cv2.ximgproc.guidedFilter(grey * each, grey * each, RADIUS, 1e-4 * each ** 2) / each for each in (1, 255)]
assert np.abs(answers[0] - answers[1]).max() * 255 < 0.1
PYTHON
