# SPDX-License-Identifier: Apache-2.0
"""Threads follow the cores that other programs leave; /proc is made up as proc(5) describes it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core import spare_cores
from core.spare_cores import LOOKS, SpareCores, Usage, others, read_usage, watch_cores


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)
    watch_cores(False)


@pytest.mark.parametrize(
    ("busy", "threads"), [(0.0, 4), (0.4, 4), (0.6, 3), (1.0, 3), (1.6, 2), (3.0, 1), (4.0, 1), (9.0, 1)]
)
def test_a_busy_core_takes_a_thread(busy: float, threads: int, capsys: pytest.CaptureFixture[str]) -> None:
    cores = SpareCores()
    for look in range(LOOKS):
        assert torch.get_num_threads() == 4, look
        cores.note(busy, used=4.0)
    assert torch.get_num_threads() == threads
    said = f"Other programs keep {busy:.1f} of 4 cores busy: {threads} of 4 threads" if threads < 4 else ""
    assert capsys.readouterr().out.startswith(said)


def test_a_free_core_gives_it_back() -> None:
    cores = SpareCores()
    for busy, threads in [(1.0, 3), (0.6, 3), (0.4, 3), (0.2, 4)]:
        for _ in range(LOOKS):
            cores.note(busy, used=4.0)
        assert torch.get_num_threads() == threads


def test_what_passes_soon_is_not_answered() -> None:
    cores = SpareCores()
    for busy in (1.0, 0.0, 1.0, 0.0):
        cores.note(busy, used=4.0)
    assert torch.get_num_threads() == 4


def test_nothing_is_short_while_cores_are_idle() -> None:
    """A training that waits for its files leaves cores to others."""
    cores = SpareCores()
    for _ in range(2 * LOOKS):
        cores.note(3.0, used=3.4)
    assert torch.get_num_threads() == 4


def test_what_the_program_does_itself_is_none_of_others() -> None:
    before = Usage(1000, {1: 100, 2: 50})
    assert others(before, Usage(1400, {1: 280, 2: 100})) == 400 - 180 - 50
    assert others(before, Usage(1400, {1: 280, 3: 30})) == 400 - 180 - 30  # one worker has ended, another has begun
    assert others(before, Usage(1100, {1: 300, 2: 60})) == 0  # the two are not read at one moment


def test_usage_is_that_of_the_processors_it_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    #          user nice system idle iowait irq softirq steal guest guest_nice
    rows = ["cpu  9 9 9 9 9 9 9 9 9 9", "cpu0 1 2 4 100 200 8 16 32 0 0", "cpu1 1 0 0 7 0 0 0 0 0 0"]
    (tmp_path / "stat").write_text("\n".join([*rows, "cpu7 99 0 0 0 0 0 0 0 0 0", "intr 5"]))
    monkeypatch.setattr(spare_cores, "PROC", tmp_path)
    usage = read_usage()
    assert usage is not None
    assert usage.all == 1 + (2 if os.nice(0) > 0 else 0) + 4 + 8 + 16 + 1
    assert list(usage.own) == [os.getpid()]


def test_no_proc_means_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_cores, "PROC", tmp_path)
    monkeypatch.setattr(spare_cores, "PERIOD", 0.0)
    cores = SpareCores()
    for _ in range(3 * LOOKS):
        cores.adapt()
    assert torch.get_num_threads() == 4


def test_looks_at_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By two looks the processors have worked for hours that no process of this program has."""
    monkeypatch.setattr(spare_cores, "PROC", tmp_path)
    monkeypatch.setattr(spare_cores, "PERIOD", 0.0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    watch_cores(True)
    for look in range(LOOKS + 1):
        (tmp_path / "stat").write_text(f"cpu0 {10**9 * look} 0 0 0 0 0 0 0 0 0\n")
        spare_cores.adapt_threads()
    assert torch.get_num_threads() == 1
    assert re.search(r"1 of 4 threads from here on, which rounds otherwise", capsys.readouterr().out)


def test_who_names_the_number_of_threads_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    watch_cores(True)
    assert spare_cores._spare_cores is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    watch_cores(False)
    assert spare_cores._spare_cores is None
