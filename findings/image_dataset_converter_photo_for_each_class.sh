#!/bin/bash
# image-dataset-converter makes objects of masks several times: each photo once for each class, and each hole too.
#
# Expected: is-to-od finds the objects in the mask of each class. A photo with one cat, one dog and one bird becomes a
# photo with three objects; a cat with a hole is one cat.
# Seen with image-dataset-converter 0.1.0: the filter passes the photo on once for each class that it finds, and all of
# these share one list of objects: the COCO file has the photo three times under one name, with all three objects each
# time. A hole in a mask becomes an object of its own, as large as the hole. Nothing is said about either.
# Why it matters: photos with more classes weigh more in training and evaluation, parts that are split hold the same
# photo, and a detector learns that the hole of a ring is a ring.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    image-dataset-converter==0.1.0 kasperl==0.0.3 seppl==0.3.1 wai_logging==0.0.8 wai_common==0.0.46 numpy==2.4.6 \
    Pillow==13.0.0 opencv-python==5.0.0.93 shapely==2.2.0 imagesize==2.0.1 fast_opex==0.0.4 defusedxml==0.7.1 \
    python_image_complete==0.0.6 simple_palette_utils==0.0.4 platformdirs==4.14.9 python-dotenv==1.2.4 \
    watchdog==7.1.0 croniter==7.0.0 typing-inspect==0.9.0 typing-extensions==4.16.0 mypy-extensions==1.2.0 \
    javaproperties==0.8.2 python-dateutil==2.9.0.post0 six==1.17.0 matplotlib==3.11.2 contourpy==1.3.3 cycler==0.12.1 \
    fonttools==4.68.0 kiwisolver==1.5.1 packaging==26.4 pyparsing==3.3.3
# pypfm is left out: only depth maps need it, and its dependency cannot be built without a download
HOME="$folder" PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

import cv2
import numpy
from idc.tool.convert import main
from PIL import Image

folder = pathlib.Path(sys.argv[1]) / "data"
classes = ["cat", "dog", "bird"]
places = {"cat": (10, 20, 40, 40), "dog": (90, 20, 30, 50), "bird": (150, 60, 20, 20)}  # left, top, width, height


def converted(case: str, names: list[str], hole: bool) -> dict:
    """The COCO description that is made of a mask with these objects."""
    (folder / case).mkdir(parents=True)
    mask = numpy.zeros((100, 200), numpy.uint8)
    for name in names:
        left, top, width, height = places[name]
        mask[top : top + height, left : left + width] = classes.index(name) + 1
    if hole:
        mask[30:45, 20:35] = 0  # within the cat
    for number in range(1, 4):  # each class is one region
        assert cv2.connectedComponents((mask == number).astype(numpy.uint8))[0] == 1 + (classes[number - 1] in names)
    picture = Image.fromarray(mask)
    picture.putpalette([value for value in range(256) for _ in range(3)])
    picture.save(folder / case / "photo.png")
    Image.new("RGB", (200, 100)).save(folder / case / "photo.jpg")
    with contextlib.redirect_stderr(io.StringIO()):
        main(
            ["from-indexed-png-is", "-i", f"{folder}/{case}/photo.png", "--labels", *classes]
            + ["is-to-od", "--labels", *classes, "to-coco-od", "-o", f"{folder}/{case}_coco"]
        )
    return json.loads((folder / f"{case}_coco/annotations.json").read_text())


print(f"image-dataset-converter {importlib.metadata.version('image-dataset-converter')}")
for case, names, hole, times in (
    ("cat", ["cat"], False, 1),
    ("cat_and_dog", ["cat", "dog"], False, 2),
    ("all", classes, False, 3),
    ("ring", ["cat"], True, 1),
):
    content = converted(case, names, hole)
    images = [each["file_name"] for each in content["images"]]
    number = {each["id"]: each["name"] for each in content["categories"]}
    objects = [(number[each["category_id"]], each["bbox"]) for each in content["annotations"]]
    print(f"{case}: {len(names)} objects in one photo; made {len(objects)} objects in {images}")
    assert images == ["photo.jpg"] * times, "the behaviour has changed"
    right = [(name, list(map(float, places[name]))) for name in names]
    if hole:
        print(f"{case}: {objects}, should be {right}")
        assert objects[0] == right[0]
        assert objects[1:] == [("cat", [19.0, 29.0, 17.0, 17.0])], "the behaviour has changed"
    else:
        assert objects == right * times, "the behaviour has changed"
PYTHON
