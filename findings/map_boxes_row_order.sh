#!/usr/bin/env bash
# map-boxes lets a weaker detection take an object if it stands in an earlier row, and never counts empty images.
#
# Expected: PASCAL VOC's average precision: detections claim objects in the order of their scores, and a detection in an
# image without objects is a false one, as exclude_not_in_annotations=False (the default) says too.
# Seen with map-boxes 1.0.6: of two detections of one object the one in the first row gets it, whatever the scores, so
# the AP is 0.5 or 1.0 by the order of the rows. A confident detection in an image without objects leaves the AP at 1.0,
# with either value of exclude_not_in_annotations; VOC's AP is 0.5.
# Why it matters: tables that are not sorted by score give a mAP that is too low, and false alarms cost nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    map-boxes==1.0.6 pandas==3.1.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from map_boxes import mean_average_precision_for_boxes

# image, class, then left, right, top and bottom in parts of the image; detections have their score before these
OBJECT = np.array([["street.jpg", "car", 0.1, 0.5, 0.1, 0.5]], dtype=object)
GOOD = ["street.jpg", "car", 0.9, 0.1, 0.5, 0.1, 0.5]
WEAK = ["street.jpg", "car", 0.3, 0.1, 0.5, 0.1, 0.48]
FALSE = ["forest.jpg", "car", 0.95, 0.1, 0.5, 0.1, 0.5]


def precision(*detections: list, **settings: bool) -> float:
    rows = np.array(detections, dtype=object)
    return float(mean_average_precision_for_boxes(OBJECT, rows, 0.5, verbose=False, **settings)[0])


rows = {"good first": precision(GOOD, WEAK), "weak first": precision(WEAK, GOOD)}
empty = {name: precision(GOOD, FALSE, exclude_not_in_annotations=name) for name in (False, True)}
print(f"map-boxes {importlib.metadata.version('map-boxes')}, AP of the same two detections: {rows}")
print(f"AP with a false detection of score 0.95 in an image without objects, by exclude_not_in_annotations: {empty}")
assert rows == {"good first": 1.0, "weak first": 0.5}, "the behaviour has changed"
assert empty == {False: 1.0, True: 1.0}, "the behaviour has changed"
PYTHON
