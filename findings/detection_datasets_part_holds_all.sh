#!/bin/bash
# detection-datasets writes all photos and objects into the COCO file of each part: train holds those of val and test.
#
# Expected: instances_train.json holds the photos of the folder train beside it and their objects, as it was read.
# Seen with detection-datasets 0.3.8: to_disk("coco") of a data set with two photos in train and one in val writes two
# files with the same three photos and objects; only the folders of photos are divided. They hold the photos under the
# number of the photo (2.jpg), the files name the old ones (b.jpg). Nothing is raised or warned of; to_disk("yolo") is
# right.
# Why it matters: a network that is scored with instances_val.json is scored on its training photos too, and one that
# is trained with instances_train.json learns the photos that it is scored on.
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
from PIL import Image

folder = pathlib.Path(sys.argv[1])
parts = {"train": {1: "a.jpg", 2: "b.jpg"}, "val": {3: "c.jpg"}}
for part, photos in parts.items():
    (folder / "coco" / part).mkdir(parents=True)
    for name in photos.values():
        Image.new("RGB", (100, 100)).save(folder / "coco" / part / name)
    dataset = {
        "images": [{"id": number, "file_name": name, "width": 100, "height": 100} for number, name in photos.items()],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 0, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
            for number in photos
        ],
    }
    (folder / "coco" / f"{part}.json").write_text(json.dumps(dataset))
with contextlib.redirect_stdout(io.StringIO()):
    splits = {part: (f"{part}.json", part) for part in parts}
    data = DetectionDataset().from_disk("coco", str(folder / "coco"), splits=splits)
    data.to_disk("coco", "written", str(folder))
    data.to_disk("yolo", "yolo", str(folder))
    del data  # prints that it is deleted
print(f"detection-datasets {importlib.metadata.version('detection-datasets')}")
for part, photos in parts.items():
    written = json.loads((folder / "written" / "annotations" / f"instances_{part}.json").read_text())
    images = [each["file_name"] for each in written["images"]]
    objects = [each["image_id"] for each in written["annotations"]]
    beside = sorted(path.name for path in (folder / "written" / part).iterdir())
    labels = sorted(path.name for path in (folder / "yolo" / "labels" / part).iterdir())
    print(f"{part}: {len(photos)} photos read, {images} written with objects on {objects}; in the folder {beside}")
    assert sorted(images) == ["a.jpg", "b.jpg", "c.jpg"] and sorted(objects) == [1, 2, 3], "the behaviour has changed"
    assert beside == [f"{number}.jpg" for number in photos], "the behaviour has changed"
    assert labels == [f"{number}.txt" for number in photos], "the behaviour has changed"
PYTHON
