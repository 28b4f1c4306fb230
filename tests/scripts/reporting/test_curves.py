# SPDX-License-Identifier: Apache-2.0
"""Curves from event files as train.py writes them, whole and damaged."""

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from core.reports import log_scalars
from reporting.charts import ticks
from reporting.curves import read_curves


def write_log(folder: Path, first: int = 0, purge: int | None = None) -> Path:
    before = set(folder.glob("*"))
    writer = SummaryWriter(folder, purge_step=purge)
    for step in range(first, first + 20):
        log_scalars(writer, "Train", {"loss": 2 - step / 100, "acc1": float(step), "lr": 0.1}, step)
    log_scalars(writer, "Valid", {"loss": float("nan"), "acc1": 50.0, "acc5": 90.0}, first + 20)
    writer.close()
    return (set(folder.glob("*")) - before).pop()


def test_curves_are_those_of_the_log(tmp_path: Path) -> None:
    write_log(tmp_path)
    curves = read_curves(tmp_path)
    assert curves.troubles == []
    assert list(curves.charts) == [("Loss", "nats"), ("Acc@1", "%"), ("Learning rate", "")]
    assert curves.charts["Acc@1", "%"] == {"Train": [(step, step) for step in range(20)], "Valid": [(20, 50.0)]}
    assert list(curves.charts["Loss", "nats"]) == ["Train"]  # NaN is no point


def test_a_resumed_run_is_one_curve(tmp_path: Path) -> None:
    write_log(tmp_path).rename(tmp_path / "events.out.tfevents.1.a")
    write_log(tmp_path, first=10, purge=10)
    steps = [step for step, _ in read_curves(tmp_path).charts["Acc@1", "%"]["Train"]]
    assert steps == list(range(30))


def test_no_folder_and_no_file_are_no_trouble(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert vars(read_curves(folder)) == {"charts": {}, "troubles": []}


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign"])
def test_damaged_logs_are_named_and_shown_as_far_as_they_go(tmp_path: Path, damage: str) -> None:
    path = write_log(tmp_path)
    content = path.read_bytes()
    half = len(content) // 2
    damaged = {"cut": content[:half], "changed": content[:half] + b"\xff" * 40 + content[half + 40 :]}
    path.write_bytes(damaged.get(damage, b"no log at all, but a text of some length\n" * 9))
    curves = read_curves(tmp_path)
    [trouble] = curves.troubles
    assert trouble.startswith(f"{path}: damaged or cut off after ")
    points = curves.charts.get(("Acc@1", "%"), {"Train": []})["Train"]
    assert points == [(step, step) for step in range(len(points))]
    assert (len(points) == 0) == (damage == "foreign")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, [0, 50, 100]), (0.3, 2.4, [0, 1, 2, 3]), (0, 0.004, [0, 0.002, 0.004]), (5, 5, [2, 4, 6, 8])],
)
def test_ticks_are_round_and_cover_the_values(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)
