# SPDX-License-Identifier: Apache-2.0
"""The curves of a training run, from the event files that train.py writes for TensorBoard."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

from core.plurals import counted
from core.reports import SCALAR_TITLES

SPLITS = ("Train", "Valid")
MOST_POINTS = 1000  # of a curve; of more, tensorboard draws so many
RECORD_FRAME = 16  # bytes around a record: its length, and two checksums
UNITS = {"loss": "nats", "lr": "", "images_per_second": ""}  # of the others: %
LEFT_OUT = ("acc5",)

Points = list[tuple[int, float]]  # step, value


@dataclass
class Curves:
    """Title and unit -> split -> points; and the lines about damaged files."""

    charts: dict[tuple[str, str], dict[str, Points]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


def read_curves(folder: Path) -> Curves:
    """What the event files of a folder hold, up to what is damaged; nothing if there are none."""
    curves = Curves()
    files = sorted(folder.glob("events.out.tfevents.*"))
    curves.troubles = [f"{path}: {trouble}" for path in files if (trouble := find_trouble(path))]
    if not files:
        return curves
    accumulator = EventAccumulator(str(folder), {SCALARS: MOST_POINTS})
    try:
        accumulator.Reload()
    except Exception as error:  # of protobuf, or of whatever else a file can set off
        curves.troubles.append(f"{folder}: TensorBoard cannot read it ({type(error).__name__})")
    tags = accumulator.Tags()[SCALARS]
    for key, title in SCALAR_TITLES.items():
        named = {split: f"{split}/{title}" for split in SPLITS}
        found = {split: read_points(accumulator, tag) for split, tag in named.items() if tag in tags}
        if any(found.values()) and key not in LEFT_OUT:
            curves.charts[title, UNITS.get(key, "%")] = {split: points for split, points in found.items() if points}
    return curves


def find_trouble(path: Path) -> str:
    """What is wrong with an event file, "" if nothing is: tensorboard passes over all that follows a bad record."""
    try:
        length = sum(len(record) + RECORD_FRAME for record in RawEventFileLoader(str(path)).Load())
        size = path.stat().st_size
    except Exception as error:  # of tensorboard, which opens files in its own way
        return f"cannot be read ({type(error).__name__}), so its curves are missing"
    whole = counted(size, "byte")
    return "" if length == size else f"damaged or cut off after {length} of {whole}; the rest is not shown"


def read_points(accumulator: EventAccumulator, tag: str) -> Points:
    """The finite values of a curve in the order of their steps."""
    events = accumulator.Scalars(tag)
    return sorted((event.step, event.value) for event in events if math.isfinite(event.value))
