#!/bin/bash
# detection-datasets writes the upper left corner of a box into YOLO labels, where its centre has to be.
#
# Expected: a YOLO label is class, centre x, centre y, width and height, each as a part of the photo's size; the
# package's own description of to_yolo() says so too ("relative xc, yc, w, h").
# Seen with detection-datasets 0.3.8: a box from (20, 40) to (60, 60) in a photo of 100 x 100 becomes 0.2 0.4 0.4 0.2
# (its corner) instead of 0.4 0.5 0.4 0.2. Each box lies half its size too far up and to the left, in part out of the
# photo; its own from_yolo() reads it back as (0, 30) to (40, 50). Nothing is raised or warned of.
# Why it matters: the detector learns boxes that hold a quarter of the object.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    detection-datasets==0.3.8 "datasets[vision]==2.21.0" numpy==1.26.4 pandas==1.5.3 pyarrow==17.0.0 Pillow==12.3.0
export HF_HOME="$folder/cache"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

from detection_datasets import DetectionDataset
from detection_datasets.bbox import Bbox
from PIL import Image

folder = pathlib.Path(sys.argv[1])
left, top, width, height, size = 20, 40, 40, 20, 100

(folder / "coco" / "train").mkdir(parents=True)
Image.new("RGB", (size, size)).save(folder / "coco" / "train" / "1.jpg")
dataset = {
    "images": [{"id": 1, "file_name": "1.jpg", "width": size, "height": size}],
    "categories": [{"id": 0, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 0, "bbox": [left, top, width, height], "area": 800, "iscrowd": 0}
    ],
}
(folder / "coco" / "train.json").write_text(json.dumps(dataset))
with contextlib.redirect_stdout(io.StringIO()):
    data = DetectionDataset().from_disk("coco", str(folder / "coco"), splits={"train": ("train.json", "train")})
    data.to_disk("yolo", "yolo", str(folder))
    del data  # prints that it is deleted
label = [float(number) for number in (folder / "yolo" / "labels" / "train" / "1.txt").read_text().split()]
right = [0, (left + width / 2) / size, (top + height / 2) / size, width / size, height / size]
read = Bbox.from_yolo(label[1:], size, size, 1).to_voc()
print(f"detection-datasets {importlib.metadata.version('detection-datasets')}")
print(f"box from {left, top} to {left + width, top + height} in {size} x {size}: {label}, should be {right}")
print(f"read back with from_yolo(): {[round(number, 6) for number in read]}")
assert label == [0, left / size, top / size, width / size, height / size] != right, "the behaviour has changed"
PYTHON
