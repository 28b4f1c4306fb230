#!/bin/bash
# coco-to-yolo draws photos for the test set that it has drawn already, so that the set gets fewer than asked for.
#
# Expected: --test_ratio 0.5 puts half of the photos into the test set.
# Seen with coco-to-yolo 1.2.1: the photos are drawn with random.choices(), which puts each one back, and each is
# copied as often as it was drawn. Of 400 photos about 157 (39 %) get into the test set instead of 200, with
# --test_ratio 0.9 59 %, and with the usual 0.1 9.5 %. The validation set is drawn in the same way. Nothing is raised
# or warned of.
# Why it matters: a test set has fewer photos than asked for, and another number in each run, so that results of two
# runs cannot be compared. The larger the part, the more is missing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    coco-to-yolo==1.2.1 tqdm==4.70.1 pyyaml==6.0.4 pillow==13.0.0
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

from coco_to_yolo import coco_to__yolo
from PIL import Image

folder = pathlib.Path(sys.argv[1])
count = 400
(folder / "coco" / "annotations").mkdir(parents=True)
(folder / "coco" / "images").mkdir()
dataset = {
    "images": [{"id": place, "file_name": f"{place}.png", "width": 8, "height": 8} for place in range(1, count + 1)],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": place, "image_id": place, "category_id": 1, "bbox": [2, 2, 4, 4], "area": 16, "iscrowd": 0}
        for place in range(1, count + 1)
    ],
}
for image in dataset["images"]:
    Image.new("RGB", (8, 8)).save(folder / "coco" / "images" / image["file_name"])
(folder / "coco" / "annotations" / "annotations.json").write_text(json.dumps(dataset))

print(f"coco-to-yolo {importlib.metadata.version('coco-to-yolo')}")
for ratio, least, most in ((0.5, 130, 185), (0.9, 210, 265)):
    sys.argv = ["coco_to_yolo", str(folder / "coco"), str(folder / f"yolo_{ratio}"), "--test_ratio", str(ratio)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        coco_to__yolo.main()
    images = folder / f"yolo_{ratio}" / "converted" / "images"
    parts = {part: len(list((images / part).iterdir())) for part in ("train", "test")}
    print(f"--test_ratio {ratio}: {parts} instead of {round(count * ratio)} photos in the test set")
    assert sum(parts.values()) == count
    assert least < parts["test"] < most < round(count * ratio), "the behaviour has changed"
PYTHON
