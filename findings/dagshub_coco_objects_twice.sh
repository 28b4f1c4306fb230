#!/bin/bash
# dagshub-annotation-converter makes two objects of each object that has a box and an outline in a COCO file.
#
# Expected: a COCO file that is only read and written again has the objects that it had.
# Seen with dagshub-annotation-converter 0.3.0: load_coco_from_file() and export_to_coco_file() make of one object with
# box and polygon, as all objects of COCO are, one with the box only and another with the polygon only, which has no
# bbox and another id. Nothing is raised or said. Objects with a box only stay as they are.
# Why it matters: with the file as truth at most half of the objects can be found, and a network that is trained with it
# for detection has half of them without a box, which most programs refuse.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    dagshub-annotation-converter==0.3.0 pydantic==2.14.4 numpy==2.4.6 pandas==3.1.1 pillow==13.0.0 lxml==6.1.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

from dagshub_annotation_converter.converters.coco import export_to_coco_file, load_coco_from_file

folder = pathlib.Path(sys.argv[1])
print(f"dagshub-annotation-converter {importlib.metadata.version('dagshub-annotation-converter')}")
for case, segmentation, seen in (
    ("box and polygon", [[10, 10, 30, 10, 30, 30, 10, 30]], [(1, ["bbox"]), (2, ["segmentation"])]),
    ("box only", [], [(1, ["bbox"])]),
):
    truth = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    dataset = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{**truth, "segmentation": segmentation}],
    }
    (folder / "coco.json").write_text(json.dumps(dataset))
    annotations, context = load_coco_from_file(folder / "coco.json")
    export_to_coco_file(annotations["a.jpg"], folder / "again.json", context)
    written = json.loads((folder / "again.json").read_text())["annotations"]
    found = [(each["id"], [key for key in ("bbox", "segmentation") if key in each]) for each in written]
    print(f"{case}: 1 object became {written}")
    assert found == seen, "the behaviour has changed"
PYTHON
