#!/bin/bash
# labelme2yolo's labelme2coco gives each object the number of the class before its own; those of the first get none.
#
# Expected: an object that is called dog in labelme has the category_id of the category dog of the COCO file.
# Seen with labelme2yolo 0.4.0: categories are numbered from 1, but objects from 0. With the list of labels cat, dog,
# bird a dog has the number of cat, a bird that of dog, and a cat the number 0, which the file does not list. Without a
# list it is the same, with the classes in an order that changes from run to run. pycocotools reads the file as it is.
# The same package's labelme2yolo gives the right classes.
# Why it matters: a detector learns to call dogs cats, and never meets the first class; evaluation with the file agrees.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    labelme2yolo==0.4.0 Pillow==13.0.0 numpy==2.4.6 pycocotools==2.0.11
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import subprocess
import sys

from PIL import Image
from pycocotools.coco import COCO

programs = pathlib.Path(sys.argv[1]) / "bin"
folder = pathlib.Path(sys.argv[1]) / "data"
(folder / "source").mkdir(parents=True)
labels = ["cat", "dog", "bird"]
boxes = {"dog": [10, 20, 40, 40], "bird": [100, 30, 40, 60], "cat": [70, 10, 20, 20]}  # left, top, width, height
for number in range(5):
    Image.new("RGB", (200, 100)).save(folder / f"source/{number}.jpg")
    shapes = [
        {"label": name, "shape_type": "rectangle", "group_id": None, "flags": {},
         "points": [[box[0], box[1]], [box[0] + box[2], box[1] + box[3]]]}
        for name, box in boxes.items()
    ]
    photo = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{number}.jpg", "imageData": None}
    (folder / f"source/{number}.json").write_text(json.dumps(photo | {"imageHeight": 100, "imageWidth": 200}))


def convert(program: str, output: str, *options: str) -> pathlib.Path:
    """Run one of the two programs of the package, and give the folder with what it wrote."""
    command = [programs / program, "--json_dir", folder / "source", "--output_dir", folder / output, *options]
    subprocess.run(command, check=True, capture_output=True)
    return folder / output


def classes_of_boxes(output: pathlib.Path) -> dict[str, set[str]]:
    """For each true class, what its objects are called in the COCO files of all parts."""
    called = {name: set() for name in boxes}
    names = {str(list(map(float, box))): name for name, box in boxes.items()}
    objects = 0
    for path in sorted(output.glob("annotations/*.json")):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(path))
        for each in coco.anns.values():
            objects += 1
            name = coco.cats.get(each["category_id"], {"name": f"number {each['category_id']}, not listed"})["name"]
            called[names[str(each["bbox"])]].add(name)
    assert objects == 15  # boxes and photos are all there
    return called


print(f"labelme2yolo {importlib.metadata.version('labelme2yolo')}")
yolo = convert("labelme2yolo", "yolo", ",".join(labels))
lines = [line.split() for path in yolo.rglob("labels/*/*.txt") for line in path.read_text().splitlines()]
for line in lines:
    left, top, width, height = boxes[labels[int(line[0])]]
    wanted = ((left + width / 2) / 200, (top + height / 2) / 100, width / 200, height / 100)
    assert all(abs(float(found) - want) < 1e-5 for found, want in zip(line[1:], wanted))
print(f"YOLO: {len(lines)} objects, all of the right class")
assert len(lines) == 15

called = classes_of_boxes(convert("labelme2coco", "coco", *labels, "--categories_from", "label_list"))
print("COCO, classes", labels, "given: objects are called", called)
right = {"dog": {"cat"}, "bird": {"dog"}, "cat": {"number 0, not listed"}}
assert called == right, "the behaviour has changed"
called = classes_of_boxes(convert("labelme2coco", "inferred"))
print("COCO, classes found in the files: objects are called", called)
assert all(name not in found for name, found in called.items()), "the behaviour has changed"
PYTHON
