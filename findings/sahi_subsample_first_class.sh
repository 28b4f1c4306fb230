#!/usr/bin/env bash
# sahi's get_subsampled_coco(category_id=0) thins out all photos instead of those with class 0.
#
# Expected: with subsample_ratio=10, each tenth of the photos with class 0, and all others, as for any other class.
# Seen with sahi 0.12.8: of 20 photos with a person, class 0, and 20 with a car, class 1, category_id=1 leaves all
# persons and 2 cars; category_id=0 leaves 2 persons and 2 cars. sahi's documentation counts classes from 0 and has this
# call with category_id=0 as its example. get_upsampled_coco(category_id=0) repeats only the photos with class 0.
# Why it matters: who takes away a part of the most frequent class, which is often the first one, loses as large a part
# of the rare ones, and their proportions stay as they were.
# Without it: number the classes from 1 with update_categories() before (below).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    sahi==0.12.8 numpy==2.4.6 opencv-python==5.0.0.93
"$folder/venv/bin/python" - <<'PYTHON'
import collections
import importlib.metadata

from sahi.utils.coco import Coco, CocoAnnotation, CocoCategory, CocoImage

NAMES = ("person", "car")


def make() -> Coco:
    coco = Coco()
    for number, name in enumerate(NAMES):
        coco.add_category(CocoCategory(id=number, name=name))
    for place in range(40):
        number = place // 20
        photo = CocoImage(file_name=f"{place}.jpg", height=100, width=100)
        box = [10, 10, 20, 20]
        photo.add_annotation(CocoAnnotation(bbox=box, category_id=number, category_name=NAMES[number]))
        coco.add_image(photo)
    return coco


def left(coco: Coco) -> dict[str, int]:
    """Number of photos with each class."""
    return dict(collections.Counter(photo.annotations[0].category_name for photo in coco.images))


first, second = (left(make().get_subsampled_coco(subsample_ratio=10, category_id=number)) for number in (0, 1))
more = left(make().get_upsampled_coco(upsample_ratio=10, category_id=0))
renumbered = make()
renumbered.update_categories({"person": 1, "car": 2})
right = left(renumbered.get_subsampled_coco(subsample_ratio=10, category_id=1))
print(f"sahi {importlib.metadata.version('sahi')}, photos: {left(make())}")
print(f"get_subsampled_coco(10, category_id=0), person: {first}")
print(f"get_subsampled_coco(10, category_id=1), car: {second}")
print(f"get_upsampled_coco(10, category_id=0), person: {more}")
print(f"get_subsampled_coco(10, category_id=1) with person as 1 and car as 2: {right}")
assert first == {"person": 2, "car": 2}, "the behaviour has changed"
assert second == {"person": 20, "car": 2} and more == {"person": 200, "car": 20}, "the behaviour has changed"
assert right == {"car": 20, "person": 2}, "counting from 1 does not help any more"
PYTHON
