#!/bin/bash
# object-detection-metrics (podm) writes the area of an object's box as its area into COCO files.
#
# Expected: a COCO file that is read and written again holds the same areas; COCO defines "area" as the number of the
# mask's pixels, and pycocotools sorts objects into small, medium and large by it.
# Seen with object-detection-metrics 0.4.post1: a triangle with the box 40 x 40, whose area is 800 (800 in the file
# read), is written with 1600. 32 * 32 = 1024 is the border between small and medium: pycocotools 2.0.11 counts the
# object, found exactly, as small with the first file (AP small 1, AP medium -1, which is none) and as medium with the
# second. Nothing is said. A rectangle keeps its area.
# Why it matters: AP by size is compared between data sets and papers, and is of other objects now.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    object-detection-metrics==0.4.post1 pycocotools==2.0.11 numpy==2.4.6 shapely==2.1.2
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import sys

from podm import coco_decoder, coco_encoder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

folder = sys.argv[1]


def ap_by_size(path: str) -> dict[str, float]:
    """The AP of pycocotools for detections that are the objects of the file, by size."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        boxes = [{key: each[key] for key in ("image_id", "category_id", "bbox")} for each in truth.anns.values()]
        evaluation = COCOeval(truth, truth.loadRes([{**box, "score": 0.9} for box in boxes]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("small", "medium", "large"), evaluation.stats[3:6].round(3).tolist()))


print(", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("object-detection-metrics", "pycocotools")))
for name, polygon, area, seen in (
    ("triangle", [10, 10, 50, 10, 10, 50], 800, 1600),
    ("rectangle", [10, 10, 30, 10, 30, 50, 10, 50], 800, 800),
):
    x, y = polygon[::2], polygon[1::2]
    shoelace = abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2
    assert area == shoelace
    image = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 100, "license": 0, "date_captured": ""}
    info = dict.fromkeys(("version", "description", "contributor", "url", "date_created"), "")
    dataset = {
        "info": {"year": 2026, **info},
        "licenses": [],
        "images": [{**image, "flickr_url": "", "coco_url": ""}],
        "categories": [{"id": 1, "name": "cat", "supercategory": ""}],
        "annotations": [
            {
                **{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": area, "segmentation": [polygon]},
                **{"bbox": [min(x), min(y), max(x) - min(x), max(y) - min(y)]},
            }
        ],
    }
    with open(f"{folder}/read.json", "w") as file:
        json.dump(dataset, file)
    with open(f"{folder}/read.json") as file, open(f"{folder}/written.json", "w") as output:
        coco_encoder.dump(coco_decoder.load_true_object_detection_dataset(file), output)
    with open(f"{folder}/written.json") as file:
        written = json.load(file)["annotations"][0]["area"]
    before, after = ap_by_size(f"{folder}/read.json"), ap_by_size(f"{folder}/written.json")
    print(f"{name}: area {area}, written {written}; AP before {before}, after {after}")
    assert written == seen and (before == after) == (written == area), "the behaviour has changed"
PYTHON
