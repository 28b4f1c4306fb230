#!/usr/bin/env bash
# albumentations' MaskDropout erases objects from picture and mask, and keeps their boxes and labels.
#
# Expected: an object that is wholly erased loses its box: "removing or adjusting them" is what the documentation says
# of boxes, CoarseDropout takes a box away with a hole over it, and MaskDropout itself the key points.
# Seen with albumentations 2.0.8: all boxes stay as they were. Only min_area and min_visibility decide, 0 unless they
# are set, and 0 pixels in sight are not fewer than 0. To set them helps by halves: the column and the row behind a box
# count as its own, so that min_area=1 still takes no box away, and min_visibility=0.1 that of an erased object of 40x40
# (5% "in sight"), but not that of 10x10 (21%). Boxes of objects that are erased in part are not made smaller either.
# Why it matters: a detector is taught to find objects of all classes in flat black areas, and no error and no count of
# boxes tells.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    albumentations==2.0.8 opencv-python-headless==5.0.0.93 numpy==2.4.6
PYTHONPATH="$folder" NO_ALBUMENTATIONS_UPDATE=1 python3 -W ignore - <<'PYTHON'
import albumentations as A
import numpy as np

BOXES = {"40x40": (10, 10, 50, 50), "10x10": (10, 60, 20, 70)}
ERASERS = {
    "MaskDropout": A.MaskDropout(max_objects=(2, 2), p=1),
    "CoarseDropout": A.CoarseDropout(
        num_holes_range=(1, 1), hole_height_range=(128, 128), hole_width_range=(128, 128), p=1
    ),
}
LIMITS = [{}, {"min_area": 1}] + [{"min_visibility": share} for share in (0.05, 0.1, 0.2, 0.22)]

picture, mask = np.full((128, 128, 3), 200, np.uint8), np.zeros((128, 128), np.uint8)
for index, (left, top, right, bottom) in enumerate(BOXES.values(), 1):
    mask[top:bottom, left:right] = index


def through(name: str, mask: np.ndarray, **limits: float) -> tuple[list[str], int]:
    """The objects whose boxes are left, and how many key points are, when all objects of the mask are erased."""
    transform = A.Compose(
        [ERASERS[name]],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["names"], **limits),
        keypoint_params=A.KeypointParams("xy"),
        seed=0,
    )
    boxes = np.array(list(BOXES.values()), float)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    result = transform(image=picture, mask=mask, bboxes=boxes, names=list(BOXES), keypoints=middles)
    assert not result["image"][mask > 0].any(), "the behaviour has changed"
    if name == "MaskDropout":
        assert not result["mask"].any() and (result["image"][mask == 0] == 200).all(), "the behaviour has changed"
    names = [str(each) for each in result["names"]]
    for each, box in zip(names, result["bboxes"], strict=True):
        assert np.allclose(box, BOXES[each], atol=1e-4), "the behaviour has changed"  # never smaller
    return names, len(result["keypoints"])


print(f"albumentations {A.__version__}, boxes and key points left of two objects that were both erased:")
seen = {}
for name in ERASERS:
    for limits in LIMITS:
        names, points = through(name, mask, **limits)
        print(f"{name}, {limits or 'as it comes'}: {', '.join(names) or 'no boxes'}, {points} key points")
        seen.setdefault(name, []).append(names)
        assert points == 0, "the behaviour has changed"
both, small = list(BOXES), ["10x10"]
assert seen["MaskDropout"] == [both, both, both, small, small, []], "the behaviour has changed"
assert seen["CoarseDropout"] == [[]] * len(LIMITS), "the behaviour has changed"

part = mask.copy()
part[:, 15:] = 0  # the other parts of the objects do not belong to the mask, and stay in the picture
names, _ = through("MaskDropout", part)
print(f"erased in part: the boxes of {', '.join(names)} stay as large as they were")
assert names == both, "the behaviour has changed"
PYTHON
