#!/usr/bin/env bash
# torchvision flips key points one pixel off from boxes, from a rotation by 180 degrees, and out of the picture.
#
# Expected: the corner of a box, taken as a key point, stays the corner of the box in every transform.
# Seen with torchvision 0.29.2: resize, crop, pad and rotate move both alike, with coordinates from 0 to the width; a
# flip takes a box from x to width - x, and a key point to width - 1 - x, as if it were the number of a pixel. A flip
# both ways is not a rotation by 180 degrees, and the point at 95.5 in a picture of 96 goes to -0.5, where
# SanitizeKeyPoints drops it. An enlargement by 10 after the flip makes ten pixels of the one.
# Why it matters: half of the pictures of a training have their key points a pixel to the left, and a detector of key
# points on small feature maps is measured by less than that.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import torch
import torchvision
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

HEIGHT, WIDTH = 64, 96
box = tv_tensors.BoundingBoxes([[30.0, 20.0, 60.0, 40.0]], format="XYXY", canvas_size=(HEIGHT, WIDTH))
corners = tv_tensors.KeyPoints([[30.0, 20.0], [60.0, 40.0]], canvas_size=(HEIGHT, WIDTH))
edge = tv_tensors.KeyPoints([[95.5, 10.0]], canvas_size=(HEIGHT, WIDTH))


def flip(x: torch.Tensor) -> torch.Tensor:
    return functional.horizontal_flip(x)


def both(x: torch.Tensor) -> torch.Tensor:
    return functional.vertical_flip(flip(x))


TRANSFORMS = {
    "resize": lambda x: functional.resize(x, [32, 48]),
    "crop": lambda x: functional.crop(x, 5, 7, 50, 60),
    "pad": lambda x: functional.pad(x, [3, 4, 5, 6]),
    "rotate by 180": lambda x: functional.rotate(x, 180),
    "flip": flip,
    "flip both ways": both,
    "flip and resize by 10": lambda x: functional.resize(flip(x), [640, 960]),
}
seen = {}
for name, transform in TRANSFORMS.items():
    points, sides = transform(corners), transform(box)[0]
    ends = torch.cat([points.amin(0), points.amax(0)])  # left, top, right, bottom of the box around the points
    seen[name] = [round(value, 3) for value in (ends - sides).tolist()]
flipped = flip(edge)
left = len(v2.SanitizeKeyPoints()(flipped))
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}")
print(f"how far the corners as key points are from the box, left, top, right, bottom: {seen}")
print(f"{edge.tolist()} flipped: {flipped.tolist()}; key points that SanitizeKeyPoints leaves: {left}")
right = [[0.0] * 4] * 4 + [[-1.0, 0.0, -1.0, 0.0], [-1.0] * 4, [-10.0, 0.0, -10.0, 0.0]]
assert list(seen.values()) == right, "the behaviour has changed"
assert flipped.tolist() == [[-0.5, 10.0]] and left == 0, "the behaviour has changed"
assert len(v2.SanitizeKeyPoints()(edge)) == 1, "the behaviour has changed"
PYTHON
