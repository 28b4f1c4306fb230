#!/usr/bin/env bash
# torchvision's rotation with expand gives boxes another canvas than the picture, and the next transform refuses both.
#
# Expected: picture, mask and boxes of one sample are rotated alike: one size, so that a crop can follow.
# Seen with torchvision 0.29.2: for most angles the canvas_size of the boxes is a pixel larger or smaller than the
# picture, and RandomCrop, RandomAffine, RandomResizedCrop and others raise "Found multiple HxW dimensions in the
# sample". With a center, for which the text says only that expand assumes the middle, the picture is turned about it
# and the boxes about the middle: a square lies 21 pixels off its box, without a warning.
# Why it matters: an augmentation as in the documentation stops the training at a random step, and if no transform
# follows that looks at sizes, boxes at the border are clipped at another border.
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
picture = torch.zeros(1, HEIGHT, WIDTH)
picture[:, 20:40, 30:60] = 1
image = tv_tensors.Image(picture)
boxes = tv_tensors.BoundingBoxes([[30.0, 20.0, 60.0, 40.0]], format="XYXY", canvas_size=(HEIGHT, WIDTH))


def rotated(angle: int, **settings: list[float]) -> tuple[tuple[int, ...], tuple[int, ...], list[int], list[int]]:
    """The sizes of picture and boxes, and the left upper corners of the square and of its box."""
    turned, box = (functional.rotate(x, angle, expand=True, **settings) for x in (image, boxes))
    rows, columns = torch.where(turned[0] > 0.5)
    corner = [round(value) for value in box[0, :2].tolist()]
    return tuple(turned.shape[-2:]), tuple(box.canvas_size), [columns.min().item(), rows.min().item()], corner


sizes = {angle: rotated(angle)[:2] for angle in range(0, 360, 10)}
other = {angle: pair for angle, pair in sizes.items() if pair[0] != pair[1]}
middle, aside = rotated(30)[2:], rotated(30, center=[10.0, 10.0])[2:]
chain = v2.Compose([v2.RandomRotation((20, 20), expand=True), v2.RandomCrop(32)])
try:
    message = f"no error: {chain(image, boxes)}"
except ValueError as error:
    message = str(error)
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}")
print(f"picture and boxes differ in size for {len(other)} of {len(sizes)} angles, such as {dict([*other.items()][:2])}")
print(f"rotated by 20 degrees and cropped: {message}")
print(f"corners of square and box at 30 degrees: {middle} about the middle, {aside} about another centre")
assert len(other) > 10 and 20 in other, "the behaviour has changed"
assert all(abs(a - b) <= 1 for pair in other.values() for a, b in zip(*pair, strict=True)), "the behaviour has changed"
assert message.startswith("Found multiple HxW dimensions"), "the behaviour has changed"
assert max(abs(a - b) for a, b in zip(*middle, strict=True)) <= 1, "the behaviour has changed"
assert max(abs(a - b) for a, b in zip(*aside, strict=True)) > 10, "the behaviour has changed"
PYTHON
