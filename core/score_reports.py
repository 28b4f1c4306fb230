# SPDX-License-Identifier: Apache-2.0
"""The scores of a task as people and programs read them: test.json, and a line for each class."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from core.atomic_files import write_atomically
from core.exported_files import hash_file
from core.folders import shorten
from core.settings import precision_name


def write_scores(config: ModuleType, scores: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
    """Write results/<exp_name>/test.json, whole or not at all: the scores, and what was measured with what."""
    report = {name: value for name, value in scores.items() if name != "skipped"}  # steps of a training
    report |= {
        "weights": config.model_weights_path,
        "weights_sha256": hash_file(Path(config.model_weights_path)),
        "data": config.data_dir or "scenes of digits",
        "split": config.test_split if config.data_dir else "test",
        "image_size": config.image_size,
        "precision": precision_name(config.precision, dtype),
        "device": str(device),
        "torch": torch.__version__,
    }
    path = Path("results", config.exp_name, "test.json")
    write_atomically(path, lambda file: file.write(f"{json.dumps(report, indent=2)}\n".encode()))


def name_shares(classes: Sequence[str], shares: Iterable[float]) -> dict[str, float | None]:
    """The share of each class by its name; None for NaN, which is no JSON."""
    return {name: None if math.isnan(share) else float(share) for name, share in zip(classes, shares, strict=True)}


def print_classes(title: str, shares: dict[str, float | None], where: str) -> None:
    """A line for each class: percent, or that it is nowhere."""
    for name, share in shares.items():
        print(f"{shorten([name]):<16}{title} " + (f" {where}" if share is None else f"{share:6.2f}"))
