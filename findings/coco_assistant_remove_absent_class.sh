#!/bin/bash
# coco-assistant's remove_cat() removes all objects of a COCO file that has no class to remove.
#
# Expected: a file without trucks has nothing to lose when trucks are removed: it is written as it was, as train and
# val are thinned out with one list of classes, and a part without a rare class is ordinary.
# Seen with coco-assistant 0.4.0: val.json, with two cats and no truck, becomes a file with no object at all; its
# photos and classes are still there. Nothing is raised, and what is printed is the same line as for train.json, which
# has a truck and is right. pycocotools takes an empty list of classes for "all of them", and the whole file for what
# is to go.
# (pycocotools 2.0.11 takes the place of coco-ash, the copy of it that the package names.)
# Why it matters: the photos are now examples without any object; a detector is trained or judged against nothing.
# Without it: only name classes that the file has.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pycocotools==2.0.11 numpy==1.26.4 pandas==1.5.3 matplotlib==3.8.4 seaborn==0.11.2 scipy==1.15.3 tqdm==4.67.1
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps coco-assistant==0.4.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

from coco_assistant import COCO_Assistant

folder = pathlib.Path(sys.argv[1])
classes = {"cat": 1, "truck": 2}


def write(part: str, objects: list[str]) -> None:
    """A COCO file of one photo."""
    (folder / "images" / part).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    dataset = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "categories": [{"id": number, "name": name} for name, number in classes.items() if name in objects],
        "annotations": [
            {
                **{"id": place, "image_id": 1, "category_id": classes[name], "iscrowd": 0, "area": 400},
                **{"bbox": [20 * place, 10, 20, 20], "segmentation": []},
            }
            for place, name in enumerate(objects, 1)
        ],
    }
    (folder / "annotations" / f"{part}.json").write_text(json.dumps(dataset))


write("train", ["cat", "cat", "truck"])
write("val", ["cat", "cat"])
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("coco-assistant", "pycocotools")))
said = {}
for part, seen in (("train", 2), ("val", 0)):
    with contextlib.redirect_stdout(io.StringIO()):
        assistant = COCO_Assistant(folder / "images", folder / "annotations")
    path = folder / "annotations" / f"{part}.json"
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assistant.remove_cat(interactive=False, jc=path, rcats=["truck"])
    said[part] = output.getvalue()
    before = json.loads(path.read_text())
    after = json.loads((folder / "results" / "removal" / f"{part}.json").read_text())
    right = sum(each["category_id"] != classes["truck"] for each in before["annotations"])
    objects = len(before["annotations"])
    print(f"{part}: {objects} objects, {right} of them no trucks, {len(after['annotations'])} written")
    print(f"    classes written: {[each['name'] for each in after['categories']]}, printed: {said[part]!r}")
    assert right == 2 and len(after["annotations"]) == seen, "the behaviour has changed"
    assert [each["name"] for each in after["categories"]] == ["cat"], "the behaviour has changed"
assert said["train"] == said["val"], "the behaviour has changed"
PYTHON
