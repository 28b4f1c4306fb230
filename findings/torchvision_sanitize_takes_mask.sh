#!/usr/bin/env bash
# torchvision's SanitizeBoundingBoxes takes the segmentation mask of a picture away together with its only box.
#
# Expected: the text says that masks of instances, [N, H, W], are sanitised with the boxes, and those of semantic
# segmentation go through unchanged.
# Seen with torchvision 0.29.2: tv_tensors.Mask(picture) and VOCSegmentation's wrapper give masks of [1, H, W], so a
# picture with one box has a mask for "each" instance: if the box goes, the mask comes back with the shape [0, H, W].
# With two boxes, of which one goes, it stays. The same with a mask of [H, W] and H boxes: rows go.
# Why it matters: pictures with one object are common, a crop removes it often, and the mask is empty without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 -W error - <<'PYTHON'
import torch
import torchvision
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

GOOD, EMPTY = [1.0, 1.0, 9.0, 9.0], [5.0, 5.0, 5.0, 9.0]
mask = tv_tensors.Mask(Image.new("L", (48, 32), 1))  # one picture of classes, as files hold it


def kept(boxes: list[list[float]], mask: tv_tensors.Mask) -> tuple[int, tuple[int, ...]]:
    """How many boxes are left, and the shape of the mask."""
    sample = {
        "image": tv_tensors.Image(torch.zeros(3, *mask.shape[-2:])),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(mask.shape[-2:])),
        "labels": torch.ones(len(boxes), dtype=torch.long),
        "mask": mask,
    }
    sample = v2.SanitizeBoundingBoxes()(sample)
    return len(sample["boxes"]), tuple(sample["mask"].shape)


seen = {
    "one good box": kept([GOOD], mask),
    "one empty box": kept([EMPTY], mask),
    "a good and an empty box": kept([GOOD, EMPTY], mask),
    "no channel, one empty box": kept([EMPTY], tv_tensors.Mask(mask[0])),
    "no channel, 32 boxes, 2 empty": kept([GOOD] * 30 + [EMPTY] * 2, tv_tensors.Mask(mask[0])),
}
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, a mask of {tuple(mask.shape)}")
print(f"boxes left and shape of the mask: {seen}")
whole = (1, 32, 48)
right = [(1, whole), (0, (0, 32, 48)), (1, whole), (0, (32, 48)), (30, (30, 48))]
assert list(seen.values()) == right, "the behaviour has changed"
PYTHON
