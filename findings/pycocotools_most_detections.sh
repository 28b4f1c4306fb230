#!/usr/bin/env bash
# pycocotools gives an AP of -1 as soon as maxDets allows another number of detections than 100, and AP50 as usual.
#
# Expected: maxDets is a parameter, [1, 10, 100] unless it is set; with [1, 10, 300] all numbers are for 300 detections.
# Seen with pycocotools 2.0.11: the first number, the AP, is looked up for 100 detections alone, and -1, the sign of "no
# objects", if there are none such. AP50, AP75 and the recalls are for 300. With [10, 100, 300] the AP is that for 100
# detections, beside an AP50 for 300. A list of fewer than three raises IndexError.
# Why it matters: crowded pictures need more than 100 detections; -1 looks like an empty data set, and with 100 in the
# list nothing looks wrong at all.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pycocotools==2.0.11 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import contextlib
import importlib.metadata
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOXES = [[30.0 * (i % 20), 30.0 * (i // 20), 20.0, 20.0] for i in range(200)]  # two hundred objects, all found


def scores(*most: int) -> list[float] | str:
    """AP, AP50 and the recall with the most detections, or the error."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1}],
            "categories": [{"id": 1}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 400.0, "iscrowd": 0}
                for i, box in enumerate(BOXES, 1)
            ],
        }
        coco.createIndex()
        found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in BOXES]
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.params.maxDets = list(most)
        evaluation.evaluate()
        evaluation.accumulate()
        try:
            evaluation.summarize()
        except IndexError as error:
            return str(error)
    return [round(float(evaluation.stats[i]), 3) for i in (0, 1, 8)]


seen = {most: scores(*most) for most in ((1, 10, 100), (1, 10, 300), (10, 100, 300), (100,))}
print(f"pycocotools {importlib.metadata.version('pycocotools')}, AP, AP50 and recall of 200 objects, all found:")
for most, answer in seen.items():
    print(f"maxDets {list(most)}: {answer}")
half = [0.505, 0.505, 0.5]
right = [half, [-1.0, 1.0, 1.0], [0.505, 1.0, 1.0], "list index out of range"]
assert list(seen.values()) == right, "the behaviour has changed"
PYTHON
