# SPDX-License-Identifier: Apache-2.0
"""scripts/measure_run.py: a short run does not grow, and nothing is left behind, however a run ends."""

import signal
import sys
from pathlib import Path

import pytest

import measure_run
from shared import small_training

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def narrow_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the time it takes."""
    monkeypatch.setitem(small_training.SETTINGS, "model_width_mult", 0.1)


def test_run_does_not_grow_and_leaves_nothing(short_path: Path, capsys: pytest.CaptureFixture) -> None:
    samples, ending = measure_run.measure_growth(short_path / "project", epochs=6)
    assert [len(row) for row in samples] == [5] * 6  # the main process, 2 workers for each of 2 splits
    main, *workers = measure_run.growth(samples)
    assert main.all < 4  # MB; keeping the images of the 72 steps would be 7
    assert max(worker.private for worker in workers) < 4
    assert max(process.files for process in (main, *workers)) < 12  # each batch under way is a file or two
    assert max(process.threads for process in (main, *workers)) <= 0
    assert (ending.status, ending.processes, ending.segments, ending.temporary) == (0, 0, 0, 0)
    measure_run.print_samples(samples)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[2:]] == ["1", "2", "3", "4", "5", "6", "3"]


@pytest.mark.usefixtures("forked_trainings", "narrow_network")
@pytest.mark.parametrize(
    ("event", "statuses"),
    [
        ("an unreadable image in a worker", {2}),
        ("SIGKILL of a worker", {2}),
        ("SIGKILL of the main process", {-signal.SIGKILL}),
        ("SIGKILL of all processes", {-signal.SIGKILL}),
    ],
)
def test_nothing_is_left(short_path: Path, monkeypatch: pytest.MonkeyPatch, event: str, statuses: set[int]) -> None:
    monkeypatch.setattr(measure_run, "IMAGES_PER_CLASS", 16)
    ending = measure_run.measure_ending(short_path / "project", measure_run.EVENTS[event])
    assert ending.processes == ending.segments == 0, ending
    assert ending.status in statuses, ending
    if event == "an unreadable image in a worker":
        assert ending.said.startswith("./data/Colours/train/blue/000.png: not a readable image")
