#!/bin/bash
# datasetsconverter names the class of each object by a word in COCO files that it makes of Pascal VOC ones.
#
# Expected: pascalvoc_to_coco() gives each object the number of its class, which "categories" of the file explains:
# the COCO format says "category_id": int.
# Seen with datasetsconverter 0.0.1: the categories are {id: 0, name: cat} and {id: 1, name: dog}, and the objects have
# "category_id": "cat" or "dog". pycocotools reads the file without a word, but finds no object of any class, and its
# evaluation of perfect detections is -1 everywhere. The package's own coco_to_yolo() writes "cat 0.15 0.4 0.2 0.4"
# into labels, where YOLO has a number. The way from YOLO to COCO gives numbers.
# Why it matters: all that asks for the objects of a class (loaders, samplers, metrics) gets images without objects.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    datasetsconverter==0.0.1 numpy==2.4.6 Pillow==13.0.0 tqdm==4.70.1 pycocotools==2.0.11
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys
import xml.etree.ElementTree

import datasetsconverter
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

folder = pathlib.Path(sys.argv[1]) / "data"
for name in ("photos", "voc", "coco", "yolo", "source/labels"):
    (folder / name).mkdir(parents=True)
Image.new("RGB", (200, 100)).save(folder / "photos/photo.jpg")
objects = {"cat": (10, 20, 50, 60), "dog": (100, 30, 140, 90)}
boxes = "".join(
    f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
    f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
    for name, box in objects.items()
)
(folder / "voc/photo.xml").write_text(
    "<annotation><filename>photo.jpg</filename>"
    f"<size><width>200</width><height>100</height><depth>3</depth></size>{boxes}</annotation>"
)
root = xml.etree.ElementTree.parse(folder / "voc/photo.xml").getroot()
assert [each.findtext("name") for each in root.iter("object")] == ["cat", "dog"]


def perfect(path: pathlib.Path) -> tuple[int, float]:
    """How many objects of a class pycocotools finds in a file, and the AP of detections that are all right."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        assert len(truth.anns) == 2  # the file holds both objects
        found = truth.loadRes(
            [{key: each[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
             for each in truth.anns.values()]
        )
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return sum(len(truth.getAnnIds(catIds=[number])) for number in truth.getCatIds()), evaluation.stats[0]


photos = str(folder / "photos")
made = folder / "coco/of_voc.json"
own = folder / "coco/of_yolo.json"
(folder / "source/classes.txt").write_text("cat\ndog\n")
(folder / "source/labels/photo.txt").write_text("0 0.15 0.4 0.2 0.4\n1 0.6 0.6 0.2 0.6\n")
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    datasetsconverter.pascalvoc_to_coco(str(folder / "voc"), str(made), photos)
    datasetsconverter.yolo_to_coco(str(folder / "source"), str(own), photos)
    datasetsconverter.coco_to_yolo(str(made), str(folder / "yolo"), photos)
print(f"datasetsconverter {importlib.metadata.version('datasetsconverter')}")
content = json.loads(made.read_text())
words = [each["category_id"] for each in content["annotations"]]
print(f"of VOC: categories {content['categories']}, category_id of the objects {words}")
for name, path, right in (("VOC", made, False), ("YOLO", own, True)):
    count, precision = perfect(path)
    print(f"of {name}: {count} of 2 objects found by class, AP of perfect detections {precision:.1f}")
    assert (count, round(precision, 6)) == ((2, 1) if right else (0, -1)), "the behaviour has changed"
label = (folder / "yolo/labels/photo.txt").read_text().split("\n")[0]
print(f"of VOC, then to YOLO: {label}")
assert words == ["cat", "dog"] and label.startswith("cat "), "the behaviour has changed"
PYTHON
