#!/bin/bash
# pycocoedit's filter for the area of boxes looks at the area of masks.
#
# Expected: BoxAreaFilter ("Filter annotations based on bounding box area") keeps or drops objects by width times
# height of the box.
# Seen with pycocoedit 0.0.1: it compares the field area, which in COCO's format is the area of the mask. A thin object
# that lies across a box of 100 x 100 has an area of 600: BoxAreaFilter with max_area=700 keeps it and drops a box of
# 30 x 30, and min_area=5000 drops it. Without masks both areas are the same.
# Why it matters: large boxes go where small ones were meant, in all data sets with outlines: skis, ropes, cracks,
# branches and animals with long legs are much smaller than their boxes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pycocoedit==0.0.1 typing-extensions==4.16.0 pycocotools==2.0.11 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import copy
import importlib.metadata

from pycocoedit.objectdetection.data import CocoData
from pycocoedit.objectdetection.filter import BoxAreaFilter, FilterType
from pycocotools import mask

outlines = {"thin": [10, 10, 16, 10, 110, 110, 104, 110], "square": [10, 10, 40, 10, 40, 40, 10, 40]}
dataset = {
    "images": [{"id": 1, "file_name": "1.jpg", "width": 200, "height": 200}],
    "categories": [{"id": 1, "name": "cat", "supercategory": ""}],
    "annotations": [
        {
            **{"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [outline]},
            "bbox": [10, 10, max(outline[::2]) - 10, max(outline[1::2]) - 10],
            "area": float(mask.area(mask.merge(mask.frPyObjects([outline], 200, 200)))),
        }
        for number, outline in enumerate(outlines.values(), 1)
    ],
}


def kept(**limits: int) -> list[str]:
    """The names of the objects that an inclusion filter keeps."""
    data = CocoData(copy.deepcopy(dataset)).add_filter(BoxAreaFilter(FilterType.INCLUSION, **limits)).apply_filter()
    return [list(outlines)[thing["id"] - 1] for thing in data.get_dataset()["annotations"]]


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pycocoedit", "pycocotools")))
for name, thing in zip(outlines, dataset["annotations"]):
    print(f"{name}: box of {thing['bbox'][2]} x {thing['bbox'][3]}, area {thing['area']}")
boxes = {name: thing["bbox"][2] * thing["bbox"][3] for name, thing in zip(outlines, dataset["annotations"])}
for limits, seen in (({"max_area": 700}, ["thin"]), ({"min_area": 5000}, [])):
    right = [n for n, area in boxes.items() if limits.get("min_area", 0) <= area <= limits.get("max_area", 1e9)]
    print(f"BoxAreaFilter with {limits} keeps {kept(**limits)}, boxes of that area: {right}")
    assert kept(**limits) == seen != right, "the behaviour has changed"
PYTHON
