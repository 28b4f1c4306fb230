#!/bin/bash
# segment-toolkit writes a box for the largest object of a mask only, and drops all others.
#
# Expected: a mask with three objects gives three boxes, as the package's own MaskToPolygonConverter gives three
# outlines; the documentation promises YOLO labels of binary masks, and speaks of no number of objects.
# Seen with segment-toolkit 1.2.0: MaskToYoloConverter writes one line, for the object with the largest area. The log
# says that the label was written successfully.
# Why it matters: the other objects are in the photos, but not in the labels, so that the detector learns that they are
# background. Masks of cells, leaves or cars hold many objects each.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    numpy==2.4.6 opencv-python-headless==5.0.0.93 pillow==13.0.0 pandas==3.1.1 matplotlib==3.11.2 typer==0.29.2
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    --no-deps segment-toolkit==1.2.0
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import logging
import pathlib
import sys

import cv2
import numpy as np
from segment_toolkit import MaskToPolygonConverter, MaskToYoloConverter

folder = pathlib.Path(sys.argv[1])
logging.disable(logging.INFO)
mask = np.zeros((640, 640), np.uint8)
mask[64:192, 64:192] = 255
mask[320:480, 64:224] = 255  # the largest one
mask[64:192, 400:528] = 255
cv2.imwrite(str(folder / "mask.png"), mask)
cv2.imwrite(str(folder / "photo.png"), np.zeros((640, 640, 3), np.uint8))

names = ("segment-toolkit", "opencv-python-headless")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
objects = cv2.connectedComponents(mask)[0] - 1
lines = {}
for converter in (MaskToYoloConverter, MaskToPolygonConverter):
    path = folder / f"{converter.__name__}.txt"
    converter().convert_single(str(folder / "photo.png"), str(folder / "mask.png"), str(path), class_id=0)
    lines[converter] = path.read_text().splitlines()
    print(f"{objects} objects: {converter.__name__} writes {len(lines[converter])}")
assert objects == len(lines[MaskToPolygonConverter]) == 3
assert lines[MaskToYoloConverter] == ["0 0.225000 0.625000 0.250000 0.250000"], "the behaviour has changed"
PYTHON
