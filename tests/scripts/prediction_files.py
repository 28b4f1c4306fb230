# SPDX-License-Identifier: Apache-2.0
"""The files that test.py writes, made by hand."""

import csv
import hashlib
import json
from pathlib import Path

from reporting.predictions import Predictions, read_predictions

Row = tuple[str, str, list[tuple[str, float]]]  # file, true class, the likeliest classes with their probabilities


def write_predictions(path: Path, rows: list[Row]) -> None:
    count = len(rows[0][2])
    header = ["file", "true_class", *(f"{name}_{k + 1}" for k in range(count) for name in ("class", "probability"))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for name, true, answers in rows:
            writer.writerow([name, true, *(word for label, share in answers for word in (label, f"{share:.6f}"))])


def write_test_json(path: Path, rows: list[Row], **values: object) -> None:
    hits = sum(true == answers[0][0] for _, true, answers in rows)
    measured = {"acc1": 100 * hits / len(rows), "images": len(rows), "weights": "gone.pth", "weights_sha256": "0" * 64}
    measured |= {"data": "data", "image_size": 32, "apply_orientation": False}
    measured["predictions_sha256"] = hashlib.sha256(path.with_name("predictions.csv").read_bytes()).hexdigest()
    path.write_text(json.dumps(measured | {"precision": "float32", "runtime": "torch"} | values))


def predictions_of(folder: Path, answers: str) -> Predictions:
    """What a file holds whose rows are given as "true: likeliest 0.6, next 0.3; ..."."""
    rows = []
    for number, part in enumerate(answers.split(";")):
        true, _, given = part.partition(":")
        best = [(word.split()[0], float(word.split()[1])) for word in given.split(",")]
        rows.append((f"{number}.png", true.strip(), best))
    write_predictions(folder / "predictions.csv", rows)
    return read_predictions(folder / "predictions.csv")
