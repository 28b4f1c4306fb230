#!/usr/bin/env bash
# pylabel writes the last object before an image without objects to COCO once more, for each such image.
#
# Expected: ImportCoco() and ExportToCoco() give the objects that were there.
# Seen with pylabel 0.1.55: of photos with a dog, a cat and, twice, nothing, the dog is written once and the cat three
# times, with the same id, in the same image; the empty photos are there, too. With the cat found, pycocotools 2.0.11
# gives it an AP of 0.337, as it looks for three cats; 1.0 is right.
# Why it matters: data sets hold photos without objects against false detections, mostly next to each other; the object
# in front of them then counts as often as there are such photos.
# Without it: keep each id once (below).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pylabel==0.1.55 pandas==2.3.3 numpy==2.4.6 opencv-python==5.0.0.93 pycocotools==2.0.11
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import sys

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pylabel import importer

folder = sys.argv[1]
BOX = [10, 10, 20, 20]
original = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (1, 2, 3, 4)],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {
            **{"id": i, "image_id": i, "category_id": i, "bbox": BOX, "area": 400, "iscrowd": 0},
            "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
        }
        for i in (1, 2)
    ],
}
with open(f"{folder}/original.json", "w") as file:
    json.dump(original, file)


def precision(dataset: dict) -> float:
    """AP of the cat, which is found."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        found = [{"image_id": 2, "category_id": 2, "bbox": BOX, "score": 0.9}]
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return round(float(evaluation.eval["precision"][:, :, 1, 0, -1].mean()), 3)


with contextlib.redirect_stderr(io.StringIO()):
    dataset = importer.ImportCoco(f"{folder}/original.json")
    rows = len(dataset.df)
    dataset.export.ExportToCoco(output_path=f"{folder}/copy.json")
with open(f"{folder}/copy.json") as file:
    copy = json.load(file)
names = {each["id"]: each["name"] for each in copy["categories"]}
objects = [(names[each["category_id"]], each["image_id"], each["id"]) for each in copy["annotations"]]
once = {**copy, "annotations": list({each["id"]: each for each in copy["annotations"]}.values())}
scores = [precision(each) for each in (original, copy, once)]
print(f"pylabel {importlib.metadata.version('pylabel')}: {rows} rows, one for each object or photo without one")
print(f"Written photos: {[each['id'] for each in copy['images']]}; class, photo and id of each object: {objects}")
print(f"AP of the cat in the original, in the copy, and in the copy with each id once: {scores}")
assert rows == 4 and [each["id"] for each in copy["images"]] == [1, 2, 3, 4], "the behaviour has changed"
assert objects == [("dog", 1, 0)] + 3 * [("cat", 2, 1)], "the behaviour has changed"
assert scores == [1, 0.337, 1], "the behaviour has changed"
PYTHON
