#!/bin/bash
# bboxconverter's export(split=True) exchanges the sizes of validation and test.
#
# Expected: train_size=0.5, val_size=0.375 and test_size=0.125 divide 16 photos into 8, 6 and 2.
# Seen with bboxconverter 0.1.9: into 8, 2 and 6. Nothing is said; equal sizes (0.1 and 0.1, which are the usual ones)
# hide it. create_data_splits(), which export() calls with the two in the other order, is right when called itself.
# Why it matters: the network is chosen by a third of the photos that it should be, and scored by three times as many
# as were put aside; a test set of another division is partly in the validation's.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    bboxconverter==0.1.9 pandas==1.5.3 numpy==1.26.4 scikit-learn==1.7.2 scipy==1.15.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

import bboxconverter

folder = pathlib.Path(sys.argv[1]) / "data"
folder.mkdir()
names = [f"{place}.jpg" for place in range(16)]
for name in names:
    (folder / name).write_bytes(b"")  # only copied
dataset = {
    "images": [{"id": place, "file_name": name, "width": 100, "height": 100} for place, name in enumerate(names)],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": place + 1, "image_id": place, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
        for place in range(len(names))
    ],
}
(folder / "coco.json").write_text(json.dumps(dataset))
parser = bboxconverter.read_coco(folder / "coco.json")
sizes = {"train_size": 0.5, "val_size": 0.375, "test_size": 0.125}
print(f"bboxconverter {importlib.metadata.version('bboxconverter')}, {len(names)} photos, {sizes}")
for way, split, seen in (
    ("export(split=True)", lambda: parser.export(folder, "coco", split=True, **sizes), [8, 2, 6]),
    ("create_data_splits()", lambda: parser.create_data_splits(folder, **sizes), [8, 6, 2]),
):
    split()
    parts = ("train", "val", "test")
    found = [len(json.loads((folder / part / f"{part}.json").read_text())["images"]) for part in parts]
    print(f"{way}: photos of train, val and test {found}")
    assert found == seen, "the behaviour has changed"
PYTHON
