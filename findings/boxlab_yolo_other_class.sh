#!/bin/bash
# boxlab writes objects of a COCO file as another class into YOLO labels unless the classes are numbered 1, 2, 3 ...
#
# Expected: the first number of a YOLO label is the place of the object's class in the names of data.yaml.
# Seen with boxlab 0.1.4: the names are numbered by their place in the sorted numbers of the classes, the labels hold
# the number less one, or 0 for 0. Classes 0, 1 and 2 (as Label Studio, sahi and labelme2coco write them) become
# labels 0, 0 and 1: cats and dogs are both cats, and birds are dogs. Classes 1, 3 and 4 (COCO's own numbers have such
# gaps) become 0, 2 and 3: dogs are birds, and birds have no name. Nothing is raised or warned of. Classes 1, 2 and 3
# are right.
# Why it matters: the network learns the wrong classes, and two of them as one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    numpy==1.26.4 matplotlib==3.10.8 pillow==12.3.0 pyyaml==6.0.3
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps boxlab==0.1.4
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

import yaml
from boxlab.dataset.plugins.coco import COCOLoader
from boxlab.dataset.plugins.yolo import YOLOExporter

folder = pathlib.Path(sys.argv[1])


def yolo(classes: dict[str, int]) -> dict[str, str | None]:
    """The names that a.txt, b.txt and so on give the objects of a COCO file, with one photo of each class."""
    path = folder / f"coco_{'_'.join(map(str, classes.values()))}.json"
    dataset = {
        "images": [
            {"id": place, "file_name": f"{name}.jpg", "width": 100, "height": 100}
            for place, name in enumerate(classes, 1)
        ],
        "categories": [{"id": number, "name": name} for name, number in classes.items()],
        "annotations": [
            {
                **{"id": place, "image_id": place, "category_id": number, "iscrowd": 0, "area": 400},
                **{"bbox": [10, 10, 20, 20], "segmentation": []},
            }
            for place, number in enumerate(classes.values(), 1)
        ],
    }
    path.write_text(json.dumps(dataset))
    YOLOExporter().export(COCOLoader().load(path), folder / path.stem, copy_images=False)
    names = yaml.safe_load((folder / path.stem / "data.yaml").read_text())["names"]
    labels = {name: (folder / path.stem / "labels" / "train" / f"{name}.txt").read_text() for name in classes}
    return {name: names.get(int(label.split()[0])) for name, label in labels.items()}


print(f"boxlab {importlib.metadata.version('boxlab')}")
for numbers, seen in (
    ((0, 1, 2), ("cat", "cat", "dog")),
    ((1, 3, 4), ("cat", "bird", None)),
    ((1, 2, 3), ("cat", "dog", "bird")),
):
    classes = dict(zip(("cat", "dog", "bird"), numbers))
    found = yolo(classes)
    print(f"{classes}: {found}")
    assert found == dict(zip(classes, seen)), "the behaviour has changed"
PYTHON
