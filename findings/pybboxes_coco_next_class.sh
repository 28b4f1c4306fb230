#!/bin/bash
# pybboxes names the objects of a COCO file after the next class in its list, if the classes are numbered from 1.
#
# Expected: class 1 of a COCO file is the one whose "id" is 1, also when it is written as Pascal VOC or YOLO.
# Seen with pybboxes 0.2.0: the "id" is taken for a place in the list of names, which is counted from 0. Of cat (1),
# dog (2) and bird (3), the VOC file calls a cat dog and a dog bird; the YOLO labels are 1 and 2, of a classes.txt in
# which 0 is cat. Nothing is said, as long as no object of the last class is there: then an IndexError is raised. The
# same file with classes numbered from 0 is right.
# Why it matters: COCO counts from 1, and so do most tools; a part of a data set that lacks the last (or a rare) class
# is ordinary. The network learns the wrong names.
# (pycocotools 2.0.11 takes the place of 2.0.6, which the package asks for.)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    pybboxes==0.2.0 pycocotools==2.0.11 numpy==2.4.6 pyyaml==6.0.3
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

from pybboxes.annotations import Annotations

folder = pathlib.Path(sys.argv[1])
names = ["cat", "dog", "bird"]


def written(first: int, objects: list[str]) -> tuple[list[str], list[str]]:
    """The names of objects in the VOC file and in the YOLO labels, for classes numbered from first on."""
    numbers = {name: number for number, name in enumerate(names, first)}
    dataset = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [
            {
                **{"id": place, "image_id": 1, "category_id": numbers[name], "iscrowd": 0},
                **{"bbox": [10 * place, 10, 20, 20], "area": 400, "segmentation": []},
            }
            for place, name in enumerate(objects, 1)
        ],
    }
    output = folder / f"from_{first}"
    (folder / "coco.json").write_text(json.dumps(dataset))
    annotations = Annotations("coco")
    with contextlib.redirect_stdout(io.StringIO()):
        annotations.load_from_coco(str(folder / "coco.json"))
    annotations.save_as_voc(str(output))
    annotations.save_as_yolo(str(output))
    classes = (output / "classes.txt").read_text().split()
    labels = (output / "a.txt").read_text().splitlines()
    voc = [each.text for each in ElementTree.parse(output / "a.xml").iterfind("object/name")]
    return voc, [classes[int(label.split()[0])] for label in labels]


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pybboxes", "pycocotools", "numpy")))
for first, seen in ((1, ["dog", "bird"]), (0, ["cat", "dog"])):
    voc, yolo = written(first, ["cat", "dog"])
    print(f"{names} numbered from {first}, a cat and a dog: VOC {voc}, YOLO {yolo}")
    assert voc == yolo == seen, "the behaviour has changed"
try:
    written(1, ["bird"])
except IndexError as error:
    print(f"numbered from 1, a bird: IndexError: {error}")
else:
    raise AssertionError("the behaviour has changed")
PYTHON
