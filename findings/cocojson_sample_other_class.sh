#!/bin/bash
# cocojson's sample_by_class() takes the number of photos for each class in the order in which objects come up.
#
# Expected: class_ks=[1, 3] for classes cat and dog takes one photo with a cat and three with a dog ("a list of
# integers corresponding to the categories").
# Seen with cocojson 0.1.1: three with a cat and one with a dog if the first object of the file is a dog. Nothing is
# said. The same file with a cat first is right.
# Why it matters: the sample is drawn to make up for what is rare, and does the opposite.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    cocojson==0.1.1 numpy==2.4.6 opencv-python==5.0.0.93 tqdm==4.67.1 Pillow==13.0.0
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import collections
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

from cocojson.tools import sample_by_class
from PIL import Image

folder = pathlib.Path(sys.argv[1])
classes = {"cat": 1, "dog": 2}


def sampled(objects: list[str]) -> dict[str, int]:
    """The photos sampled of each class, from a file with one photo for each object."""
    root = folder / f"{objects[0]}_first"
    root.mkdir()
    for place in range(len(objects)):
        Image.new("L", (100, 100)).save(root / f"{place}.png")
    dataset = {
        "images": [
            {"id": place, "file_name": f"{place}.png", "width": 100, "height": 100} for place in range(len(objects))
        ],
        "categories": [{"id": number, "name": name} for name, number in classes.items()],
        "annotations": [
            {
                **{"id": place + 1, "image_id": place, "category_id": classes[name], "iscrowd": 0},
                **{"bbox": [10, 10, 20, 20], "area": 400},
            }
            for place, name in enumerate(objects)
        ],
    }
    (root / "coco.json").write_text(json.dumps(dataset))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        sample_by_class(root / "coco.json", root, root / "sample", class_ks=[1, 3])
    written = json.loads((root / "sample" / "coco.json").read_text())
    assert len(written["images"]) == len(written["annotations"]) == 4, "the behaviour has changed"
    names = {number: name for name, number in classes.items()}
    return dict(collections.Counter(names[each["category_id"]] for each in written["annotations"]))


print(f"cocojson {importlib.metadata.version('cocojson')}, classes {classes}, class_ks=[1, 3]")
for objects, seen in ((["dog", "cat"] * 5, {"cat": 3, "dog": 1}), (["cat", "dog"] * 5, {"cat": 1, "dog": 3})):
    found = sampled(objects)
    print(f"5 photos of each, {objects[0]} first: {found}")
    assert found == seen, "the behaviour has changed"
PYTHON
