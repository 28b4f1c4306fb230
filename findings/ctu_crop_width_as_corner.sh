#!/bin/bash
# ctu moves the width and height of a COCO box as if they were a corner when a photo is cropped or padded.
#
# Expected: the box of an object in the cropped photo has the object's width and height, as its outline has.
# Seen with ctu 0.2.1: the crop is taken off all four numbers of x, y, width and height in turn. A box of 40 x 30
# becomes one of 20 x 20 if the crop begins at (20, 10), and of 10 x 10 if it begins at (30, 20). Padding a photo of
# 200 x 100 by 0.1 makes each box 20 wider and 10 higher. Outlines are right. Nothing is raised or warned of.
# Why it matters: the package is there to do to boxes what is done to photos. All boxes of cropped photos are too small
# or empty, and those of padded ones too large.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    ctu==0.2.1 numpy==2.4.6 opencv-python-headless==5.0.0.93 matplotlib==3.11.2
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

from ctu import Coco2CocoRel, CocoRel2CocoSpecificSize

width, height = 200, 100
x, y, w, h = 90, 40, 40, 30


def change(size: tuple[int, int], **what) -> tuple[list[int], list[int]]:
    """Box and box of the outline of an object after a crop or a padding that gives a photo of a size."""
    dataset = {
        "info": {},
        "images": [{"id": 1, "file_name": "1.jpg", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {
                **{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0},
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
        ],
    }
    relative = Coco2CocoRel().run(dataset, **what)
    image = CocoRel2CocoSpecificSize().run(relative, desired_ht_wd=size[::-1], crop_oof=False)
    (thing,) = image["annotations"]
    outline = thing["segmentation"][0]
    left, top, right, bottom = min(outline[::2]), min(outline[1::2]), max(outline[::2]), max(outline[1::2])
    return [round(n) for n in thing["bbox"]], [round(n) for n in (left, top, right - left, bottom - top)]


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ctu", "numpy")))
for left, top, seen in ((20, 10, (20, 20)), (30, 20, (10, 10)), (0, 0, (40, 30))):
    corners = ((left / width, top / height), (1.0, 1.0))
    box, outline = change((width - left, height - top), rel_crop_pt1_pt2=corners)
    print(f"crop from {left}, {top} on: box {box}, outline {outline}")
    assert outline == [x - left, y - top, w, h]
    assert box == [x - left, y - top, *seen], "the behaviour has changed"
box, outline = change((240, 120), offset="orig_to_pad", rel_padding_ht_wd=(0.1, 0.1))
print(f"padding of 20 columns and 10 rows: box {box}, outline {outline}")
assert outline == [x + 20, y + 10, w, h]
assert box == [x + 20, y + 10, w + 20, h + 10], "the behaviour has changed"
PYTHON
