#!/usr/bin/env bash
# datumaro joins the box of one VOC object with the mask of the object before it when it converts VOC to COCO.
#
# Expected: colour k of a VOC SegmentationObject picture is object k of the XML file; two objects become two COCO
# annotations, each with its own box and its own mask.
# Seen with datumaro 1.13.12: format "voc" gives the boxes of a picture the groups 0, 1, ... and its masks the groups
# 1, 2, ..., and the export to COCO makes one annotation of what has one group. A cat and a dog become three: a cat
# without a mask, a dog with its own box and the cat's mask, and once more a dog, with its mask. Box and mask of the
# middle annotation have no pixel in common. Nothing is raised or logged. Box k + 1 and mask k always meet.
# Why it matters: VOC to COCO is the first of the examples in datumaro's documentation; a network trained on it learns
# each object from the shape of another one, and is asked to find one object twice.
# Without it: add 1 to the group of each box before the export (below).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    datumaro==1.13.12 pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import sys
from pathlib import Path

import numpy as np
from datumaro import Dataset
from PIL import Image
from pycocotools.coco import COCO

folder = Path(sys.argv[1])
WIDTH, HEIGHT = 120, 60
OBJECTS = [("cat", 8, (10, 10, 40, 50)), ("dog", 12, (60, 20, 110, 55))]  # name, VOC's class, left, top, right, bottom


def palette() -> list[int]:
    """VOC's colours."""
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((np.arange(256) >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours.ravel().tolist()


def make_voc() -> str:
    voc = folder / "voc"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject", "ImageSets/Main"):
        (voc / name).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(voc / "JPEGImages/photo.jpg")
    (voc / "ImageSets/Main/train.txt").write_text("photo\n")
    xml = "<annotation><filename>photo.jpg</filename>"
    xml += f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size><segmented>1</segmented>"
    classes, instances = (np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(2))
    for place, (name, number, (left, top, right, bottom)) in enumerate(OBJECTS, 1):
        xml += f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin>"
        xml += f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        classes[top:bottom, left:right] = number
        instances[top:bottom, left:right] = place
    (voc / "Annotations/photo.xml").write_text(xml + "</annotation>")
    for name, pixels in (("SegmentationClass", classes), ("SegmentationObject", instances)):
        mask = Image.fromarray(pixels)
        mask.putpalette(palette())
        mask.save(voc / name / "photo.png")
    return str(voc)


def written(dataset: Dataset, name: str) -> list[tuple]:
    """Class, box, number of the mask's pixels and of those inside the box, for each annotation of the COCO file."""
    options = {"reindex": True, "segmentation_mode": "polygons"}
    dataset.export(str(folder / name), "coco_instances", **options)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / name / "annotations/instances_train.json"))
    result = []
    for each in coco.dataset["annotations"]:
        left, top, width, height = (round(value) for value in each["bbox"])
        mask = coco.annToMask(each) if each["segmentation"] else np.zeros((HEIGHT, WIDTH), np.uint8)
        inside = mask[top : top + height, left : left + width]
        label = coco.cats[each["category_id"]]["name"]
        result.append((label, (left, top, left + width, top + height), int(mask.sum()), int(inside.sum())))
    return result


voc = make_voc()
dataset = Dataset.import_from(voc, "voc", coordinate_mode="voc-one-based")
(item,) = dataset
groups = [(each.type.name, OBJECTS[each.label == 12][0], each.group) for each in item.annotations]
seen = written(dataset, "coco")

changed = Dataset.import_from(voc, "voc", coordinate_mode="voc-one-based")
items = []
for item in changed:
    anns = [each.wrap(group=each.group + 1) if each.type.name == "bbox" else each for each in item.annotations]
    items.append(item.wrap(annotations=anns))
right = written(Dataset.from_iterable(items, categories=changed.categories()), "changed")

print(f"datumaro {importlib.metadata.version('datumaro')}: type, class and group of what it read: {groups}")
print(f"COCO, as class, box, pixels of the mask, and of these inside the box: {seen}")
print(f"With 1 added to the groups of the boxes: {right}")
assert groups == [("bbox", "cat", 0), ("bbox", "dog", 1), ("mask", "cat", 1), ("mask", "dog", 2)], (
    "the behaviour has changed"
)
assert [each[0] for each in seen] == ["cat", "dog", "dog"], "the behaviour has changed"
assert seen[0][2] == 0, "the behaviour has changed"  # the cat has no mask
assert seen[1][2] > 1000 and seen[1][3] == 0, "the behaviour has changed"  # the dog has the cat's
assert seen[2][2] > 1000 and seen[2][3] == seen[2][2], "the behaviour has changed"
assert [each[0] for each in right] == ["cat", "dog"], "adding 1 does not help any more"
assert all(each[2] > 1000 and each[3] == each[2] for each in right), "adding 1 does not help any more"
PYTHON
