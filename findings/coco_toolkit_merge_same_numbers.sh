#!/bin/bash
# coco-toolkit merges data sets so that photos and objects of both get the same numbers, and objects get other photos.
#
# Expected: merge_multiple_cocos() with first_id=1 ("Value of first id") numbers photos and objects from 1 on, each
# with a number of its own.
# Seen with coco-toolkit 0.1.0: each data set is numbered by itself, the first from first_id, the second from twice
# first_id, and so on. With first_id=1 the second photo of the first set and the first photo of the second one are both
# number 2. Of two sets of 5 photos pycocotools keeps 6, 4 of them with the objects of both, and 6 of 10 objects. Only
# if first_id is larger than any number of photos or objects is all right. Nothing is raised or warned of.
# Why it matters: most photos of the first set are gone from training, and their objects are on pictures that show
# something else.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    addict==2.4.0 matplotlib==3.11.2 tqdm==4.70.1 numpy==2.4.6 pillow==13.0.0 pycocotools==2.0.11
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    --no-deps coco-toolkit==0.1.0
PYTHONPATH="$folder" OMP_NUM_THREADS=1 MPLBACKEND=agg python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import logging
import os
import pathlib
import sys

from coco_toolkit.helper.merge import merge_multiple_cocos
from PIL import Image
from pycocotools.coco import COCO

folder = pathlib.Path(sys.argv[1])
logging.disable(logging.CRITICAL)
os.chdir(folder)  # it draws a chart into the current folder
count = 5
sources = []
for name in ("a", "b"):
    (folder / name / "photos").mkdir(parents=True)
    dataset = {
        **{"info": {}, "licenses": [], "categories": [{"id": 1, "name": "cat", "supercategory": ""}]},
        "images": [
            {"id": place, "file_name": f"{name}_{place}.jpg", "width": 64, "height": 64}
            for place in range(1, count + 1)
        ],
        "annotations": [
            {
                **{"id": place, "image_id": place, "category_id": 1, "area": 100, "iscrowd": 0, "segmentation": []},
                "bbox": [place, 10 if name == "a" else 40, 10, 10],  # objects of a lie above, those of b below
            }
            for place in range(1, count + 1)
        ],
    }
    for image in dataset["images"]:
        Image.new("RGB", (64, 64)).save(folder / name / "photos" / image["file_name"])
    (folder / name / "coco.json").write_text(json.dumps(dataset))
    sources.append([str(folder / name / "coco.json"), str(folder / name / "photos")])

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("coco-toolkit", "pycocotools")))
for first, photos, objects, mixed in ((1, 6, 6, 4), (100, 10, 10, 0)):
    place = folder / f"merged_{first}"
    place.mkdir()
    data = COCO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        data.dataset = merge_multiple_cocos(*sources, merge_path=str(place), first_id=first, visualizer=False)
        data.createIndex()
    assert len(data.dataset["images"]) == len(data.dataset["annotations"]) == 2 * count
    rows = {number: {it["bbox"][1] for it in things} for number, things in data.imgToAnns.items()}
    both = sum(len(tops) > 1 for tops in rows.values())
    print(f"first_id={first}: {len(data.imgs)} photos and {len(data.anns)} objects of {2 * count}, {both} with both's")
    assert (len(data.imgs), len(data.anns), both) == (photos, objects, mixed), "the behaviour has changed"
PYTHON
