#!/bin/bash
# cocojson's merge() writes the photos of one data set over those of another if both are described with the same words.
#
# Expected: photos of different folders stay apart in the merged data set, as merge() is documented to keep them
# ("Image Folder from DatasetA/image01.png").
# Seen with cocojson 0.1.1: the new folder is not named for the folder, but for info.description, which many tools
# leave empty (or fill in alike: "COCO 2017 Dataset"). Two data sets that both have a 1.png, from folders night and
# day, make a merged.json with two photos that have the same file_name; one file is there, the second one's, and the
# object of the first is now on a photo without it. Nothing is raised or warned of. With other descriptions both
# photos are there.
# Why it matters: photos are lost, and the boxes that belong to them lie on others.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    cocojson==0.1.1 numpy==2.4.6 opencv-python==5.0.0.93 tqdm==4.67.1 Pillow==13.0.0
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

from cocojson.tools import merge
from PIL import Image

folder = pathlib.Path(sys.argv[1])
grey = {"night": 0, "day": 255}


def merged(descriptions: dict[str, str]) -> dict[str, int]:
    """The grey of the photo on which the object of each data set lies after merging."""
    jsons, roots = [], []
    output = folder / f"merged_{'_'.join(descriptions.values())}"
    for name, description in descriptions.items():
        root = folder / name / "images"
        root.mkdir(parents=True, exist_ok=True)
        Image.new("L", (100, 100), grey[name]).save(root / "1.png")
        dataset = {
            "info": {"description": description},
            "images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 100}],
            "categories": [{"id": 1, "name": name}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
            ],
        }
        (folder / name / "coco.json").write_text(json.dumps(dataset))
        jsons.append(folder / name / "coco.json")
        roots.append(root)
    with contextlib.redirect_stdout(io.StringIO()):
        merge(jsons, roots, output)
    written = json.loads((output / "merged.json").read_text())
    names = {each["id"]: each["name"] for each in written["categories"]}
    photos = {each["id"]: output / "images" / each["file_name"] for each in written["images"]}
    return {
        names[each["category_id"]]: Image.open(photos[each["image_id"]]).getpixel((15, 15))
        for each in written["annotations"]
    }


print(f"cocojson {importlib.metadata.version('cocojson')}, grey of the photos {grey}")
for descriptions, seen in (
    ({"night": "", "day": ""}, {"night": 255, "day": 255}),
    ({"night": "first", "day": "second"}, grey),
):
    found = merged(descriptions)
    print(f"described as {list(descriptions.values())}: grey of the photo of each object {found}")
    assert found == seen, "the behaviour has changed"
PYTHON
