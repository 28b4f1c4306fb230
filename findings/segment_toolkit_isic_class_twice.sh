#!/bin/bash
# segment-toolkit gives two diseases of the ISIC 2019 table one class number.
#
# Expected: each column of a table of classes gets a number of its own; the documentation names the ISIC classes as the
# standard case.
# Seen with segment-toolkit 1.2.0: seven names have fixed numbers (AKIEC, BCC, BKL, DF, MEL, NV and VASC are 0 to 6),
# any other column gets the number of columns before it. ISIC 2019 has MEL, NV, BCC, AK, BKL, DF, VASC, SCC and UNK: AK
# is the fourth column, and so gets 3, which is DF already. A table with the columns BCC and healthy gives 1 to both.
# Nothing is raised or warned of.
# Why it matters: two diseases become one class in the labels, here one that may become cancer (actinic keratosis) and
# one that is harmless (dermatofibroma), and no training can tell them apart any more.
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
from segment_toolkit import MaskToYoloConverter

folder = pathlib.Path(sys.argv[1])
logging.disable(logging.INFO)


def classes(columns: tuple[str, ...]) -> dict[str, int]:
    """The class number in the label of a photo of each column, whose row has a 1 there."""
    place = folder / "_".join(columns)
    for part in ("photos", "masks", "labels"):
        (place / part).mkdir(parents=True)
    mask = np.zeros((640, 640), np.uint8)
    mask[100:200, 100:300] = 255
    rows = [",".join(("image", *columns))]
    for column in columns:
        cv2.imwrite(str(place / "photos" / f"photo_{column}.jpg"), np.zeros((640, 640, 3), np.uint8))
        cv2.imwrite(str(place / "masks" / f"photo_{column}.png"), mask)
        rows.append(",".join((f"photo_{column}", *("1.0" if column == name else "0.0" for name in columns))))
    (place / "table.csv").write_text("\n".join(rows) + "\n")
    MaskToYoloConverter().convert_dataset(
        str(place / "photos"), str(place / "masks"), str(place / "labels"), ground_truth=str(place / "table.csv")
    )
    labels = {column: (place / "labels" / f"photo_{column}.txt").read_text() for column in columns}
    return {column: int(label.split()[0]) for column, label in labels.items()}


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("segment-toolkit", "pandas")))
for columns, seen in (
    (("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"), (4, 5, 1, 0, 2, 3, 6)),  # ISIC 2018
    (("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"), (4, 5, 1, 3, 2, 3, 6, 7, 8)),  # ISIC 2019
    (("BCC", "healthy"), (1, 1)),
):
    found = classes(columns)
    print(f"{len(columns)} columns, {len(set(found.values()))} classes: {found}")
    assert tuple(found.values()) == seen, "the behaviour has changed"
PYTHON
