#!/bin/bash
# superannotate writes areas into COCO files that grow with the distance of the box from the top of the photo.
#
# Expected: export_annotation() to COCO for object detection gives each object the area of its box, width times height.
# Seen with superannotate 4.6.2: a pair of brackets is missing, and the area is the width times the lower edge, less the
# upper edge. A box of 20 by 20 pixels has the area 400 at the top of a photo, and 19020 at the foot of one of 1000
# rows. Boxes and outlines beside it are right, and so are the areas for instance segmentation.
# Why it matters: pycocotools takes objects below 1024 for small, and those above 9216 for large. Here only the place in
# the photo decides: AP by size mixes sizes, and filters by area let small objects through.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    superannotate==4.6.2 superannotate_schemas==1.0.49 pydantic==2.14.4 pydantic-core==2.50.5 aiohttp==3.14.5 \
    aiofiles==25.1.0 aiohappyeyeballs==2.7.1 aiosignal==1.4.0 annotated-types==0.8.0 anyio==4.16.0 attrs==26.1.0 \
    boto3==1.44.8 botocore==1.44.8 certifi==2026.10.19.post1 charset-normalizer==3.5.3 fire==0.7.1 frozenlist==1.8.0 \
    idna==3.20 jmespath==1.1.0 json-logic==0.7.0a0 mixpanel==5.1.0 multidict==7.2.1 narwhals==2.29.0 numpy==2.4.6 \
    opencv-python-headless==4.14.0.94 packaging==26.4 pandas==2.3.3 pillow==12.3.0 plotly==6.9.0 propcache==0.5.4 \
    pydantic-extra-types==2.11.1 pyrsistent==0.20.0 python-dateutil==2.9.0.post0 pytz==2026.6 requests==2.34.2 \
    s3transfer==0.19.3 six==1.17.0 termcolor==3.3.0 tqdm==4.70.1 typing-extensions==4.16.0 typing-inspection==0.4.5 \
    tzdata==2026.6 urllib3==2.8.0 yarl==1.25.1 httpx==0.28.1 httpcore==1.0.9 h11==0.16.0 asgiref==3.13.0
SA_SKIP_METRICS=1 HOME="$folder" PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

from superannotate import export_annotation

folder = pathlib.Path(sys.argv[1]) / "data"
(folder / "source/classes").mkdir(parents=True)
(folder / "output").mkdir()
(folder / "source/classes/classes.json").write_text(json.dumps([{"id": 1, "name": "cat", "color": "#ff0000"}]))
boxes = [(10, 0, 30, 20), (10, 300, 30, 320), (10, 980, 30, 1000), (50, 200, 650, 700)]  # left, top, right, bottom
objects = [
    {"type": "bbox", "classId": 1, "className": "cat", "groupId": 0, "attributes": [], "pointLabels": {},
     "points": dict(zip(("x1", "y1", "x2", "y2"), box))}
    for box in boxes
]
photo = {"metadata": {"name": "photo.jpg", "width": 1000, "height": 1000}, "instances": objects, "tags": []}
(folder / "source/photo.jpg.json").write_text(json.dumps(photo | {"comments": []}))
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    export_annotation(str(folder / "source"), str(folder / "output"), "COCO", "cats", "Vector", "object_detection")
(path,) = (folder / "output").rglob("cats.json")
print(f"superannotate {importlib.metadata.version('superannotate')}, photo of 1000 by 1000 pixels")
written = json.loads(path.read_text())["annotations"]
assert len(written) == len(boxes)
for (left, top, right, bottom), each in zip(boxes, written):
    area = (right - left) * (bottom - top)
    assert each["bbox"] == [left, top, right - left, bottom - top]  # the box is right
    size = ["small", "medium", "large"][(each["area"] >= 32**2) + (each["area"] >= 96**2)]
    print(f"box {each['bbox']}: area {each['area']} ({size}), should be {area}")
    assert each["area"] == (right - left) * bottom - top, "the behaviour has changed"
    assert (each["area"] == area) == (top == 0), "the behaviour has changed"
PYTHON
