#!/usr/bin/env bash
# mean-average-precision counts objects marked difficult as objects to find, and finding them as nothing.
#
# Expected: PASCAL VOC's rule, which the package names: a difficult object is neither asked for nor counted if found.
# Seen with mean-average-precision 2024.1.5.0: one plain and one difficult object, both found: AP 0.5, and no answer has
# more, where VOC's AP is 1.0. A class without objects counts as AP 0 too, so that two classes of which one is absent
# have a mAP of 0.5.
# Why it matters: VOC marks many objects as difficult, and its format is what the columns are for: a perfect detector
# has a mAP well below 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mean-average-precision==2024.1.5.0 pandas==3.1.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
from mean_average_precision import MetricBuilder

PLAIN, OTHER = [10, 10, 50, 50], [100, 100, 150, 150]


def precision(difficult: int, found: list[list[int]], classes: int = 1) -> float:
    """The mAP at an IoU of 0.5 over all points for two objects, of which the second may be difficult."""
    objects = np.array([[*PLAIN, 0, 0, 0], [*OTHER, 0, difficult, 0]], dtype=float)
    answers = np.array([[*box, 0, 0.9] for box in found], dtype=float)
    metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=classes)
    metric.add(answers, objects)
    return round(float(metric.value(iou_thresholds=0.5)["mAP"]), 4)


seen = {
    "both plain, both found": precision(0, [PLAIN, OTHER]),
    "one difficult, both found": precision(1, [PLAIN, OTHER]),
    "one difficult, the plain one found": precision(1, [PLAIN]),
    "both plain, both found, and an absent class": precision(0, [PLAIN, OTHER], 2),
}
print(f"mean-average-precision {importlib.metadata.version('mean-average-precision')}: {seen}")
assert list(seen.values()) == [1.0, 0.5, 0.5, 0.5], "the behaviour has changed"
PYTHON
