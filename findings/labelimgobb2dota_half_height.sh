#!/bin/bash
# labelimgobb2dota-converter halves the height of each turned box when it converts corners to centre, size and angle.
#
# Expected: a box of 120 x 40 stays one of 120 x 40, and a file that is converted and converted back is the same.
# Seen with labelimgobb2dota-converter 0.1.3: the width is the largest less the smallest distance of the corners from
# the centre, the height is the largest one only. 120 x 40 becomes 120 x 20, at any angle, and the way back makes
# corners of that. After a second round it is 120 x 10. Nothing is raised or warned of.
# Why it matters: each label that went through the tool holds half of its object, a quarter after two rounds, with the
# right centre, width and angle, so that it is hard to see in a picture.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    labelimgobb2dota-converter==0.1.3 numpy==2.4.6 pillow==13.0.0 opencv-python-headless==5.0.0.93
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import pathlib
import sys

import cv2
import numpy as np
from labelimgobb2DOTA_converter.core.converter import DOTA2labelimgOBB, labelimgOBB2DOTA

folder = pathlib.Path(sys.argv[1])
width, height = 400, 300


def size(path: pathlib.Path) -> list[int]:
    """The longer and the shorter side of the box whose corners a file holds, in pixels."""
    numbers = np.array(path.read_text().split()[1:], np.float32).reshape(4, 2) * np.float32([width, height])
    return sorted((round(side) for side in cv2.minAreaRect(numbers)[1]), reverse=True)


names = ("labelimgobb2dota-converter", "opencv-python-headless", "numpy")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
for angle in (0, 30, 75):
    corners = cv2.boxPoints(((200, 150), (120, 40), angle)) / [width, height]
    path = folder / "corners.txt"
    path.write_text("2 " + " ".join(f"{number:.6f}" for number in corners.ravel()) + "\n")
    sizes = [size(path)]
    for _ in range(2):
        DOTA2labelimgOBB(str(path), str(folder / "turned.txt"), width, height)
        turned = [float(number) for number in (folder / "turned.txt").read_text().split()[2:]]
        labelimgOBB2DOTA(str(folder / "turned.txt"), str(path), width, height)
        sizes.append(size(path))
        assert np.allclose(turned[:2], (200, 150), atol=0.1)  # the centre is right
    print(f"120 x 40 at {angle} degrees: {sizes[0]} before, {sizes[1]} there and back, {sizes[2]} after a second round")
    assert sizes == [[120, 40], [120, 20], [120, 10]], "the behaviour has changed"
PYTHON
