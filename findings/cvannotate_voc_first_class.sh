#!/bin/bash
# cvannotate makes every object of a Pascal VOC file one of the first class when it converts it to YOLO or COCO.
#
# Expected: a VOC file names the class of each object. With the classes cat, dog, bird, its dog becomes class 1 of the
# YOLO label and of the COCO file, and its bird class 2, as conversions in the other direction have it.
# Seen with cvannotate 1.0.0: the reader never looks at <name>. It takes the number of the class from an element
# <name_id>, which VOC does not have, and 0 where there is none: all objects are cats, in YOLO, in COCO, and in VOC
# that is written again. Even a file that cvannotate has just written itself comes back so. Nothing is said about it.
# Why it matters: boxes, files and counts are right, so that nothing looks wrong; the detector learns that everything is
# the first class.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    --no-deps cvannotate==1.0.0 defusedxml==0.7.1
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys
import xml.etree.ElementTree

from cvannotate.convert import read_annotation, write_annotation

folder = pathlib.Path(sys.argv[1]) / "data"
folder.mkdir()
classes = ["cat", "dog", "bird"]
objects = {"dog": (10, 20, 50, 60), "bird": (100, 30, 140, 90), "cat": (70, 10, 90, 30)}
boxes = "".join(
    f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
    f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
    for name, box in objects.items()
)
source = folder / "photo.xml"
source.write_text(
    "<annotation><filename>photo.jpg</filename>"
    f"<size><width>200</width><height>100</height><depth>3</depth></size>{boxes}</annotation>"
)


def names_in_voc(path: pathlib.Path) -> list[str]:
    """The classes of the objects of a VOC file, read without the package."""
    return [each.findtext("name") for each in xml.etree.ElementTree.parse(path).getroot().iter("object")]


def only(name: str, ending: str) -> pathlib.Path:
    """The one file with an ending in a folder."""
    (path,) = (folder / name).glob(f"*{ending}")
    return path


print(f"cvannotate {importlib.metadata.version('cvannotate')}, classes {classes}")
right = names_in_voc(source)
assert right == ["dog", "bird", "cat"]
seen = {}
for form in ("yolo", "coco", "voc"):
    write_annotation(read_annotation(source, "voc"), folder / form, form, classes)
labels = [line.split() for line in only("yolo", ".txt").read_text().splitlines()]
seen["VOC to YOLO"] = [classes[int(label[0])] for label in labels]
coco = json.loads(only("coco", ".json").read_text())
number = {each["id"]: each["name"] for each in coco["categories"]}
seen["VOC to COCO"] = [number[each["category_id"]] for each in coco["annotations"]]
seen["VOC to VOC"] = names_in_voc(only("voc", ".xml"))
# the boxes are right, so only the classes are lost
for label, (left, top, right_edge, bottom) in zip(labels, objects.values()):
    wanted = ((left + right_edge) / 400, (top + bottom) / 200, (right_edge - left) / 200, (bottom - top) / 100)
    assert all(abs(float(found) - want) < 1e-5 for found, want in zip(label[1:], wanted))

# from YOLO to VOC the classes are right, and lost on the way back
own = folder / "photo.txt"
own.write_text("1 0.15 0.4 0.2 0.4\n2 0.6 0.6 0.2 0.6\n0 0.4 0.2 0.1 0.2\n")
write_annotation(read_annotation(own, "yolo", width=200, height=100), folder / "there", "voc", classes)
assert names_in_voc(only("there", ".xml")) == right, "the behaviour has changed"
write_annotation(read_annotation(only("there", ".xml"), "voc"), folder / "back", "yolo", classes)
back = only("back", ".txt").read_text().splitlines()
seen["YOLO to VOC to YOLO"] = [classes[int(line.split()[0])] for line in back]
for case, names in seen.items():
    print(f"{case}: objects {names}, should be {right}")
    assert names == ["cat", "cat", "cat"], "the behaviour has changed"
PYTHON
