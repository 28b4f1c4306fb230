#!/usr/bin/env bash
# globox writes the AP of each class into the columns AR 1, AR 10 and AR 100 of its table and of its CSV file.
#
# Expected: the average recall of the class with so many detections, which evaluator.ndets_100_evaluation() gives.
# Seen with globox 2.9.0: two cats in two images are both found, one of them behind a false detection. The recall with
# 1, 10 and 100 detections is 0.5, 1 and 1, by pycocotools too; save_csv() writes 0.2525, 0.6667 and 0.6667, the AP with
# so many detections, and show_summary() prints the same in the row of the class. Its last row, the total, is right, and
# so is AR M, the recall of medium objects, in both. The CSV file has no total.
# Why it matters: AR 100 of a class is its AP once more, so who looks for the classes that a detector misses finds those
# that it confuses.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    globox==2.9.0 pycocotools==2.0.11 numpy==2.4.6
PYTHONPATH="$folder" COLUMNS=200 python3 - "$folder/scores.csv" <<'PYTHON'
import contextlib
import csv
import importlib.metadata
import io
import re
import sys
from pathlib import Path

import globox
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIDE = 50  # medium
OBJECTS = [(1, 10, 10), (2, 10, 10)]  # image, left, top
FOUND = [(1, 200, 200, 0.9), (2, 10, 10, 0.8), (1, 10, 10, 0.7)]  # the first one is false
COLUMNS = ("AR 1", "AR 10", "AR 100")


def by_pycocotools() -> dict[str, list[float]]:
    """Average recall and AP with 1, 10 and 100 detections, and the recall of medium objects."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1}, {"id": 2}],
            "categories": [{"id": 1}],
            "annotations": [
                {
                    **{"id": i, "image_id": image, "category_id": 1, "bbox": [left, top, SIDE, SIDE]},
                    **{"area": SIDE * SIDE, "iscrowd": 0},
                }
                for i, (image, left, top) in enumerate(OBJECTS, 1)
            ],
        }
        coco.createIndex()
        rows = [
            {"image_id": image, "category_id": 1, "bbox": [left, top, SIDE, SIDE], "score": score}
            for image, left, top, score in FOUND
        ]
        evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    recall, precision = evaluation.eval["recall"], evaluation.eval["precision"]
    return {
        "AR": [round(float(recall[:, 0, 0, i].mean()), 4) for i in range(3)],
        "AP": [round(float(precision[:, :, 0, 0, i].mean()), 4) for i in range(3)],
        "AR M": [round(float(recall[:, 0, 2, 2].mean()), 4)],
    }


sets = []
for rows in (OBJECTS, FOUND):
    annotations = globox.AnnotationSet()
    for image in (1, 2):
        boxes = []
        for name, left, top, *score in rows:
            if name == image:
                sides = {"xmin": left, "ymin": top, "xmax": left + SIDE, "ymax": top + SIDE}
                boxes.append(globox.BoundingBox(label="cat", **sides, confidence=score[0] if score else None))
        annotations.add(globox.Annotation(str(image), boxes=boxes))
    sets.append(annotations)
evaluator = globox.COCOEvaluator(ground_truths=sets[0], predictions=sets[1])
right = by_pycocotools()
counted = [getattr(evaluator, f"ndets_{most}_evaluation")()["cat"] for most in (1, 10, 100)]
evaluator.save_csv(Path(sys.argv[1]))
with open(sys.argv[1], newline="") as file:
    written = list(csv.DictReader(file))
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    evaluator.show_summary()
table = {"names": re.search(r"Label.*", printed.getvalue())[0]}
table.update({name: re.search(rf"{name}\b.*", printed.getvalue())[0] for name in ("cat", "Total")})
table = {name: [cell.strip() for cell in re.split("[│┃|]", line) if cell.strip()] for name, line in table.items()}
shown = {name: dict(zip(table["names"], table[name], strict=True)) for name in ("cat", "Total")}

print(f"globox {importlib.metadata.version('globox')}, pycocotools {importlib.metadata.version('pycocotools')}")
print(f"By pycocotools, with 1, 10 and 100 detections: {right}")
print(f"By ndets_1_evaluation() and so on: {counted}")
print(f"save_csv(): {written}")
print(f"show_summary(): {shown}")
assert right == {"AR": [0.5, 1, 1], "AP": [0.2525, 0.6667, 0.6667], "AR M": [1]}, "not as in COCO"
assert [round(float(item["ar"]), 4) for item in counted] == right["AR"], "the behaviour has changed"
assert [row["label"] for row in written] == ["cat"], "the behaviour has changed"
assert [round(float(written[0][name]), 4) for name in COLUMNS] == right["AP"], "the behaviour has changed"
assert written[0]["AR 100"] == written[0]["AP 50:95"] and float(written[0]["AR M"]) == 1, "the behaviour has changed"
assert [shown["cat"][name] for name in COLUMNS] == ["25.25%", "66.67%", "66.67%"], "the behaviour has changed"
assert [shown["Total"][name] for name in COLUMNS] == ["50.00%", "100.00%", "100.00%"], "the behaviour has changed"
assert shown["cat"]["AR M"] == shown["Total"]["AR M"] == "100.00%", "the behaviour has changed"
PYTHON
