#!/bin/bash
# superannotate makes an object of each part of a COCO object that is seen in several parts.
#
# Expected: import_annotation() of COCO instance segmentation gives the polygons of an object a common groupId, which is
# what joins parts in SuperAnnotate's format, and what export_annotation() reads: there and back, the object is one.
# Seen with superannotate 4.6.2: polygons are grouped only if several annotations have the same id, which COCO does not
# allow, so that they never are. A dog of two polygons is two dogs after import, and two objects with ids, boxes and
# areas of their own after export. An object in SuperAnnotate's format with a groupId is exported as one.
# Why it matters: objects behind a post or a fence are in parts; counts, boxes and evaluation by instance are wrong from
# there on, and nothing is said about it.
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

from superannotate import export_annotation, import_annotation

folder = pathlib.Path(sys.argv[1]) / "data"
(folder / "coco").mkdir(parents=True)
TASK = "instance_segmentation"


def square(left: int, top: int) -> list[int]:
    """The outline of a square of 20 by 20 pixels."""
    return [left, top, left + 20, top, left + 20, top + 20, left, top + 20]


def exported(name: str) -> list[list]:
    """The polygons of each object in the COCO file that is made of imported photos."""
    classes = [{"id": 1, "name": "dog", "color": "#ff0000"}]
    (folder / name / "classes/classes.json").write_text(json.dumps(classes))  # the numbers that the service would give
    (folder / f"{name}_coco").mkdir()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        export_annotation(str(folder / name), str(folder / f"{name}_coco"), "COCO", "dogs", "Vector", TASK)
    (path,) = (folder / f"{name}_coco").rglob("dogs.json")
    return [each["segmentation"] for each in json.loads(path.read_text())["annotations"]]


parts = [square(10, 10), square(130, 60)]
dataset = {
    "images": [{"id": 1, "file_name": "photo.jpg", "width": 200, "height": 100}],
    "categories": [{"id": 1, "name": "dog", "supercategory": "animal"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": parts, "bbox": [10, 10, 140, 70], "area": 800,
         "iscrowd": 0}
    ],
}
(folder / "coco/dogs.json").write_text(json.dumps(dataset))
print(f"superannotate {importlib.metadata.version('superannotate')}, one dog of two parts")
for name in ("imported", "grouped"):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import_annotation(str(folder / "coco"), str(folder / name), "COCO", "dogs", "Vector", TASK)
    path = folder / name / "photo.jpg.json"
    photo = json.loads(path.read_text())
    groups = [each.get("groupId", 0) for each in photo["instances"]]
    assert [each["points"] for each in photo["instances"]] == parts
    assert groups == [0, 0], "the behaviour has changed"
    for each in photo["instances"]:
        each.update(classId=1, groupId=0 if name == "imported" else 7)
    path.write_text(json.dumps(photo))
    objects = exported(name)
    print(f"{name}: groupId {[each['groupId'] for each in photo['instances']]}, exported {len(objects)} objects")
    assert objects == ([[part] for part in parts] if name == "imported" else [parts]), "the behaviour has changed"
PYTHON
