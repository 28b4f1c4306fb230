# SPDX-License-Identifier: Apache-2.0
"""test.json, which test.py writes: what was measured, on what, with what."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from core.exported_files import hash_file
from core.plurals import counted
from core.settings import is_int, is_number
from reporting.predictions import AGAIN, Predictions

LARGEST_FILE = 2**20  # bytes; test.py writes a thousand
LARGEST_SIDE = 2**13  # pixels; a larger image_size needs more memory than there is


TEXTS = ("weights", "weights_sha256", "predictions_sha256", "data", "precision", "runtime")


class Measurement(NamedTuple):
    """What test.json holds, as far as the report needs it."""

    weights: str
    weights_sha256: str
    predictions_sha256: str
    data: str
    image_size: int
    apply_orientation: bool
    images: int
    acc1: float  # percent
    precision: str
    runtime: str


def read_measurement(path: Path, predictions: Predictions) -> Measurement:
    """Read and check the file, which must be of the run that wrote the predictions.

    Raises: FileNotFoundError, or ValueError.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; run `python3 test.py`, which writes it beside predictions.csv")
    measured = parse_measurement(read_json(path), path)
    hits = int(predictions.hits().sum())
    num_images = len(predictions.files)
    if measured.images != num_images or measured.predictions_sha256 != hash_file(path.with_name("predictions.csv")):
        raise ValueError(
            f"{path}: of another run than predictions.csv beside it ({counted(measured.images, 'image')} at "
            f"{measured.acc1:.3f} %, there {num_images} at {100 * hits / num_images:.3f} %); {AGAIN}"
        )
    return measured


def read_json(path: Path) -> Any:
    """Raises: ValueError."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: not what test.py writes; {AGAIN}") from None


def parse_measurement(values: Any, path: Path) -> Measurement:
    """Raises: ValueError naming the first value that is missing, or cannot be."""
    values = values if isinstance(values, dict) else {}
    checks: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(TEXTS, lambda v: isinstance(v, str)),
        "image_size": lambda v: is_int(v, 32) and v <= LARGEST_SIDE,
        "apply_orientation": lambda v: isinstance(v, bool),
        "images": lambda v: is_int(v, 1) and v < 2**53,
        "acc1": lambda v: is_number(v, 0, 100),
    }
    for name, is_valid in checks.items():
        if not is_valid(values.get(name)):
            raise ValueError(f"{path}: its {name} is missing or cannot be; {AGAIN}")
    return Measurement(**{name: values[name] for name in Measurement._fields})
