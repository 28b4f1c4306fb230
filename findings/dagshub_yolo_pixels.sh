#!/bin/bash
# dagshub-annotation-converter writes the boxes of a COCO file in pixels into YOLO labels.
#
# Expected: a YOLO label has centre and size of a box as parts of the picture's width and height, between 0 and 1. The
# package's own boxes say whether they are in pixels or such parts, and its other exporters convert them.
# Seen with dagshub-annotation-converter 0.3.0: load_coco_from_file() and export_to_fs() make of a box in the middle of
# a picture of 200 x 100 pixels the label "0 100.0 50.0 40.0 20.0" instead of "0 0.5 0.5 0.2 0.2". Nothing is raised or
# said. Read back with the package's load_yolo_from_fs() the box begins at x = 16000. Polygons of COCO files are written
# in pixels too. With annotation.normalized() for each of them before the export the labels are right.
# Why it matters: COCO to YOLO is what such a converter is used for most; programs that train YOLO networks drop such
# labels as broken, and the photos become background.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    dagshub-annotation-converter==0.3.0 pydantic==2.14.4 numpy==2.4.6 pandas==3.1.1 pillow==13.0.0 lxml==6.1.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import logging
import pathlib
import sys

from dagshub_annotation_converter.converters.coco import load_coco_from_file
from dagshub_annotation_converter.converters.yolo import export_to_fs, load_yolo_from_fs
from dagshub_annotation_converter.formats.yolo import YoloContext
from PIL import Image

folder = pathlib.Path(sys.argv[1])
logging.getLogger("dagshub_annotation_converter.converters.yolo").setLevel(logging.ERROR)  # "Saved annotations to"
width, height, (left, top, box_width, box_height) = 200, 100, (80, 40, 40, 20)
corners = [left, top, left + box_width, top, left + box_width, top + box_height]
common = {"id": 1, "image_id": 1, "category_id": 0, "iscrowd": 0}
box = {**common, "bbox": [left, top, box_width, box_height], "area": 800}
dataset = {
    "images": [{"id": 1, "file_name": "images/a.jpg", "width": width, "height": height}],
    "categories": [{"id": 0, "name": "cat"}],
    "annotations": [box],
}
middle = ((left + box_width / 2) / width, (top + box_height / 2) / height)
right = {
    "bbox": [*middle, box_width / width, box_height / height],
    "segmentation": [place / (height if i % 2 else width) for i, place in enumerate(corners)],
}
pixels = {"bbox": [left + box_width / 2, top + box_height / 2, box_width, box_height], "segmentation": corners}

print(f"dagshub-annotation-converter {importlib.metadata.version('dagshub-annotation-converter')}")
for kind in ("bbox", "segmentation"):
    if kind == "segmentation":
        dataset["annotations"] = [{**common, "segmentation": [corners], "area": 400}]
    (folder / "coco.json").write_text(json.dumps(dataset))
    annotations, coco = load_coco_from_file(folder / "coco.json")
    labels = {}
    for way, boxes in (
        ("as loaded", annotations["images/a.jpg"]),
        ("normalized()", [each.normalized() for each in annotations["images/a.jpg"]]),
    ):
        exported = folder / f"{kind} {way}"
        context = YoloContext(annotation_type=kind, categories=coco.categories, path=pathlib.Path("data"))
        export_to_fs(context, boxes, export_dir=exported)
        labels[way] = (exported / "data" / "labels" / "a.txt").read_text()
    print(f"{kind}: {labels}; right: {right[kind]}")
    numbers = {way: [float(number) for number in label.split()[1:]] for way, label in labels.items()}
    assert numbers == {"as loaded": pixels[kind], "normalized()": right[kind]}, "the behaviour has changed"

data = folder / "bbox as loaded" / "data"
(data / "images").mkdir()
Image.new("RGB", (width, height)).save(data / "images" / "a.jpg")
(data / "data.yaml").write_text(f"path: {data}\nnames: {{0: cat}}\n")
(again,) = load_yolo_from_fs("bbox", data / "data.yaml")[0]["images/a.jpg"]
print(f"left edge, read back: {again.denormalized().left}; in the COCO file: {left}")
assert again.denormalized().left == left * width, "the behaviour has changed"
PYTHON
