#!/usr/bin/env bash
# datumaro gives an object that was added to a COCO data set the id of another object, which readers then lose.
#
# Expected: the export keeps the ids that are there, and gives what has none a new one.
# Seen with datumaro 1.13.12: of a cat with the id 1 and a dog with the id 2, and a bird added without an id, the dog
# and the bird are written with the id 2. pycocotools 2.0.11 finds objects by their ids: it has two birds and no dog, or
# two dogs and no bird, depending on their order in the file. Nothing is raised or logged. The next added objects get
# ids of their own, from 3 on.
# Why it matters: one object of the data set is neither learned nor scored, another one twice, and no tool complains.
# Without it: export(..., reindex=True), which numbers all objects anew (below).
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

from datumaro import Bbox, Dataset
from PIL import Image
from pycocotools.coco import COCO

folder = Path(sys.argv[1])
NAMES = ("cat", "dog", "bird", "fish")  # the last two are added
(folder / "coco/annotations").mkdir(parents=True)
(folder / "coco/images/train").mkdir(parents=True)
Image.new("RGB", (100, 50)).save(folder / "coco/images/train/photo.jpg")
content = {
    "images": [{"id": 1, "file_name": "photo.jpg", "width": 100, "height": 50}],
    "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)],
    "annotations": [
        {
            **{"id": number, "image_id": 1, "category_id": number, "iscrowd": 0, "area": 400},
            **{"bbox": [20 * number, 10, 20, 20], "segmentation": []},
        }
        for number in (1, 2)
    ],
}
(folder / "coco/annotations/instances_train.json").write_text(json.dumps(content))


def export(name: str, **options: bool) -> tuple[list, list]:
    """Name and id of each object in the file, and the names that pycocotools finds."""
    dataset = Dataset.import_from(str(folder / "coco"), "coco_instances")
    (item,) = dataset
    item.annotations.extend(Bbox(20 * number + 20, 10, 20, 20, label=number) for number in (2, 3))
    dataset.put(item)
    dataset.export(str(folder / name), "coco_instances", **options)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / name / "annotations/instances_train.json"))
    ids = sorted((each["id"], coco.cats[each["category_id"]]["name"]) for each in coco.dataset["annotations"])
    found = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    return ids, sorted(coco.cats[each["category_id"]]["name"] for each in found)


kept, anew = export("kept"), export("anew", reindex=True)
print(f"datumaro {importlib.metadata.version('datumaro')}: id and class of each object: {kept[0]}")
print(f"Classes of the objects that pycocotools {importlib.metadata.version('pycocotools')} finds: {kept[1]}")
print(f"With reindex=True: {anew}")
assert kept[0] == [(1, "cat"), (2, "bird"), (2, "dog"), (3, "fish")], "the behaviour has changed"
assert kept[1] in (["bird", "bird", "cat", "fish"], ["cat", "dog", "dog", "fish"]), "the behaviour has changed"
assert [each[0] for each in anew[0]] == [1, 2, 3, 4] and anew[1] == sorted(NAMES), "reindex does not help any more"
PYTHON
