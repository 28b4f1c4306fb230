#!/bin/bash
# coco-assistant's masks make one class of two if the numbers of the classes have gaps, as COCO's own have.
#
# Expected: get_segmasks() gives each class a number and a colour of its own in the mask.
# Seen with coco-assistant 0.4.0 (Pillow 12.3.0): a pixel holds the number of its class, but the palette has a colour
# for each place in the list of classes only. Of classes 1 (cat), 3 (dog) and 7 (bird), the dog gets the colour meant
# for the bird, and 7 lies behind the palette; Pillow writes it as the last index that there is, 3. In the file dogs
# and birds are both 3, of one colour. Nothing is raised or warned of. Classes 1, 2 and 3 are right, and
# get_segmasks(palette=False) is, which does without it.
# (pycocotools 2.0.11 takes the place of coco-ash, the copy of it that the package names.)
# Why it matters: COCO's 80 classes have numbers up to 90, and each file from which a class was taken has such gaps.
# The masks are what a segmentation network learns.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pycocotools==2.0.11 numpy==1.26.4 pandas==1.5.3 matplotlib==3.8.4 seaborn==0.11.2 scipy==1.15.3 tqdm==4.67.1 \
    Pillow==12.3.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps coco-assistant==0.4.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import pathlib
import sys

import numpy as np
from coco_assistant import COCO_Assistant
from PIL import Image

names = ("cat", "dog", "bird")


def masks(numbers: tuple[int, ...], palette: bool) -> dict[str, tuple[int, tuple[int, ...]]]:
    """The number and the colour of each class, and of the background, in the mask of a photo with one object each."""
    folder = pathlib.Path(sys.argv[1]) / f"{'_'.join(map(str, numbers))}_{palette}"
    (folder / "images" / "train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    dataset = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "categories": [{"id": number, "name": name} for name, number in zip(names, numbers)],
        "annotations": [
            {
                **{"id": place, "image_id": 1, "category_id": number, "iscrowd": 0, "area": 400 + place},
                **{"bbox": [30 * place, 10, 20, 20]},
                "segmentation": [[30 * place, 10, 30 * place + 20, 10, 30 * place + 20, 30, 30 * place, 30]],
            }
            for place, number in enumerate(numbers)
        ],
    }
    (folder / "annotations" / "train.json").write_text(json.dumps(dataset))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        COCO_Assistant(folder / "images", folder / "annotations").get_segmasks(palette=palette)
    with Image.open(folder / "results" / "segmasks" / "train" / "a.png") as mask:
        pixels, colours = np.array(mask), np.array(mask.convert("RGB"))
    places = {"background": (90, 90)} | {name: (20, 30 * place + 10) for place, name in enumerate(names)}
    return {name: (int(pixels[at]), tuple(colours[at].tolist())) for name, at in places.items()}


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("coco-assistant", "Pillow", "pycocotools")))
for numbers, palette, same in (((1, 2, 3), True, False), ((1, 3, 7), True, True), ((1, 3, 7), False, False)):
    found = masks(numbers, palette)
    print(f"classes {dict(zip(names, numbers))}, palette={palette}: {found}")
    assert [found[name][0] for name in names] == ([1, 3, 3] if same else list(numbers)), "the behaviour has changed"
    assert (found["dog"] == found["bird"]) == same, "the behaviour has changed"
PYTHON
