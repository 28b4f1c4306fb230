#!/bin/bash
# labelme2yolo's labelme2coco writes COCO files without any object or class if labels are to be the same in each run.
#
# Expected: --deterministic_labels, "enable deterministic label mapping (slower but consistent IDs across runs)", gives
# the classes one order, and converts the photos as else. With the same package's labelme2yolo it does.
# Seen with labelme2yolo 0.4.0: labelme2coco with this option gives files with no category and no annotation; the
# photos are listed, all without objects. The program reports success, with status 0.
# Without the option, all objects are there.
# Why it matters: COCO files without objects are valid, and training and evaluation run with them: all photos become
# background.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    labelme2yolo==0.4.0 Pillow==13.0.0
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import subprocess
import sys

from PIL import Image

programs = pathlib.Path(sys.argv[1]) / "bin"
folder = pathlib.Path(sys.argv[1]) / "data"
(folder / "source").mkdir(parents=True)
boxes = {"dog": [10, 20, 50, 60], "cat": [70, 10, 90, 30]}
for number in range(10):
    Image.new("RGB", (200, 100)).save(folder / f"source/{number}.jpg")
    shapes = [
        {"label": name, "shape_type": "rectangle", "group_id": None, "flags": {}, "points": [box[:2], box[2:]]}
        for name, box in boxes.items()
    ]
    photo = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{number}.jpg", "imageData": None}
    (folder / f"source/{number}.json").write_text(json.dumps(photo | {"imageHeight": 100, "imageWidth": 200}))


def converted(program: str, name: str, *options: str) -> tuple[int, int, int]:
    """How many photos, classes and objects a program of the package writes."""
    output = folder / name
    command = [programs / program, "--json_dir", folder / "source", "--output_dir", output, *options]
    message = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "completed successfully" in message and "ERROR" not in message and "WARN" not in message
    if program == "labelme2yolo":
        lines = [line for path in output.rglob("labels/*/*.txt") for line in path.read_text().splitlines()]
        photos = len(list(output.rglob("images/*/*.jpg")))
        return photos, len({line.split()[0] for line in lines}), len(lines)
    parts = [json.loads(path.read_text()) for path in output.glob("annotations/*.json")]
    assert len(parts) == 2  # training and validation
    return tuple(
        sum(len(part[key]) for part in parts) if key != "categories" else len(parts[0][key])
        for key in ("images", "categories", "annotations")
    )


print(f"labelme2yolo {importlib.metadata.version('labelme2yolo')}, 10 photos, 2 classes, 20 objects")
for program in ("labelme2yolo", "labelme2coco"):
    for options in ((), ("--deterministic_labels",)):
        photos, classes, objects = converted(program, f"{program}{len(options)}", *options)
        print(f"{program} {' '.join(options)}: {photos} photos, {classes} classes, {objects} objects")
        lost = program == "labelme2coco" and bool(options)
        assert (classes, objects) == ((0, 0) if lost else (2, 20)), "the behaviour has changed"
PYTHON
