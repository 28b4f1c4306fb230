#!/bin/bash
# mask2bbox gives the pixels of another cell than the one whose number in the mask is asked for.
#
# Expected: get_pixels_from(mask_id) gives the pixels of the object with that number ("Mask ID of the bounding box of
# interest").
# Seen with mask2bbox 0.0.28: it takes the number for a place in the list of boxes. If numbers are missing in the mask,
# or if boxes were removed by filter(), remove_from_edge() or subset(), these differ: of cells 2, 4 and 7, the number 2
# gives the pixels of cell 4, and 3, which does not exist, those of cell 7. Nothing is raised or warned of.
# Why it matters: pictures of cells are joined with the numbers, and so with measurements, of other cells.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mask2bbox==0.0.28 numpy==2.4.6 scikit-image==0.26.0 matplotlib==3.11.2
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import pathlib
import sys

import numpy as np
from mask2bbox._bboxes import BBoxes
from skimage import io

folder = pathlib.Path(sys.argv[1])


def cells(boxes: BBoxes, number: int) -> list[int]:
    """The numbers of the cells whose pixels come back for a number."""
    return np.unique(boxes.get_pixels_from(number, source="mask")).tolist()


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mask2bbox", "scikit-image", "numpy")))
mask = np.zeros((40, 60), np.uint16)
for number, left in ((2, 5), (4, 25), (7, 45)):
    mask[10 : 10 + 2 * number, left : left + 10] = number
io.imsave(folder / "mask.png", mask, check_contrast=False)
boxes = BBoxes.from_mask(folder / "mask.png")
assert boxes.identities().tolist() == [2, 4, 7] == sorted(set(np.unique(mask).tolist()) - {0})
for number, seen in ((1, [2]), (2, [4]), (3, [7])):
    print(f"cells 2, 4 and 7, number {number}: pixels of cell {cells(boxes, number)}")
    assert cells(boxes, number) == seen, "the behaviour has changed"

mask[mask == 2], mask[mask == 4], mask[mask == 7] = 1, 2, 3
io.imsave(folder / "mask.png", mask, check_contrast=False)
boxes = BBoxes.from_mask(folder / "mask.png")
assert [cells(boxes, number) for number in (1, 2, 3)] == [[1], [2], [3]]  # right as long as all are there
large = boxes.filter("area", np.greater_equal, 50)
print(f"filtered to cells {large.identities().tolist()}, number 2: pixels of cell {cells(large, 2)}")
assert large.identities().tolist() == [2, 3] and cells(large, 2) == [3], "the behaviour has changed"
PYTHON
