#!/bin/bash
# labelme2datasets writes COCO files in which each photo has the boxes of the last one.
#
# Expected: voc2coco makes one annotation of each object, with an id of its own, as COCO asks for.
# Seen with labelme2datasets 0.0.4: the ids begin at 1 for each photo. Of two photos with two objects each, pycocotools
# 2.0.11 knows two objects instead of four, and gives the boxes of the second photo for the first one. Nothing is said;
# only the file of a single photo is right.
# Why it matters: pycocotools, and with it torchvision's CocoDetection and most programs for training, looks objects up
# by their id. They train on, and are scored with, the boxes of another photo.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    labelme2datasets==0.0.4 xmltodict==0.13.0 pycocotools==2.0.11 numpy==2.4.6
mkdir -p "$folder/voc/Annotations" "$folder/voc/JPEGImages" "$folder/voc/ImageSets/Main"
printf '_background_\ncat\n' > "$folder/voc/class_names.txt"
object() { # the left edge of a cat of 10 x 10 pixels; VOC counts from 1 and includes the last pixel
    echo "<object><name>cat</name><difficult>0</difficult><bndbox><xmin>$1</xmin><ymin>1</ymin>"
    echo "<xmax>$(($1 + 9))</xmax><ymax>10</ymax></bndbox></object>"
}
photo() { # name and the left edges of its two cats
    echo "<annotation><filename>$1.jpg</filename><size><width>100</width><height>100</height><depth>3</depth></size>"
    echo "$(object "$2")$(object "$3")</annotation>"
}
photo a 11 31 > "$folder/voc/Annotations/a.xml"
photo b 51 71 > "$folder/voc/Annotations/b.xml"
touch "$folder/voc/JPEGImages/a.jpg" "$folder/voc/JPEGImages/b.jpg" # only copied
printf 'a\nb\n' > "$folder/voc/ImageSets/Main/both.txt"
printf 'a\n' > "$folder/voc/ImageSets/Main/one.txt"
"$folder/venv/bin/voc2coco" --voc_dir "$folder/voc" --coco_dir "$folder/coco"
"$folder/venv/bin/python" - "$folder/coco/annotations" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import sys

from pycocotools.coco import COCO

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("labelme2datasets", "pycocotools")))
right = {"a.jpg": [11, 31], "b.jpg": [51, 71]}
for part, ids, seen in (
    ("both", [1, 2, 1, 2], {"a.jpg": [51, 71], "b.jpg": [51, 71]}),
    ("one", [1, 2], {"a.jpg": [11, 31]}),
):
    path = f"{sys.argv[1]}/{part}.json"
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
    found = {
        photo["file_name"]: [each["bbox"][0] for each in coco.loadAnns(coco.getAnnIds(imgIds=number))]
        for number, photo in coco.imgs.items()
    }
    with open(path) as file:
        written = [each["id"] for each in json.load(file)["annotations"]]
    print(f"{part}: ids {written}, {len(coco.anns)} objects; left edges {found}, in the VOC files {right}")
    assert written == ids and found == seen, "the behaviour has changed"
PYTHON
