# SPDX-License-Identifier: Apache-2.0
"""scripts/benchmark.py: its parts."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import benchmark
from measuring import memory, task_steps, training_steps
from measuring.comparing import compare
from measuring.contention import busy_core
from shared.processes import descendants, wait_until
from train import create_train_state


@pytest.mark.parametrize("part", benchmark.PARTS)
def test_each_part_has_a_function_that_measures_it(part: str) -> None:
    assert list(inspect.signature(benchmark.measure_part(part)).parameters) == ["options"]


def test_steps_of_train_py_have_all_that_they_read_of_config() -> None:
    config = training_steps.training_config("float32", torch.device("cpu"), 2)
    batches = training_steps.random_batches(torch.device("cpu"), 2, 1)
    training_steps.our_steps(config, create_train_state(config, torch.device("cpu"), batches), batches)


@pytest.mark.parametrize("name", task_steps.WORKS)
def test_steps_of_tasks_train_both_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_steps, "BATCH", 2)
    monkeypatch.setattr(task_steps, "SETTLING", 1)
    work = task_steps.WORKS[name]
    losses: list[float] = []

    def note(network: nn.Module, *given: object) -> Tensor:
        loss = work.compute_loss(network, *given)
        losses.append(loss.item())
        return loss

    monkeypatch.setitem(task_steps.WORKS, name, work._replace(compute_loss=note))
    task_steps.settled(task_steps.their_steps, name, torch.float32, torch.contiguous_format)
    task_steps.our_steps(name, torch.float32)()
    assert len(losses) == 2 * task_steps.STEPS
    assert losses[0] != losses[1] and losses[2] != losses[3]


def write_report(path: Path, seconds: dict[str, list[float]], processor: str = "A") -> Path:
    record = {"title": "forward", "baseline": "theirs", "times": seconds}
    path.write_text(json.dumps({"machine": {"processor": processor}, "parts": {"model": [record]}}))
    return path


def test_changes_beyond_their_spread_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ratios 10/5 and 12/5, then 10/8 and 12/8; 10/10 and 12/9.6, then 10/9 and 12/10.8, within what they were."""
    theirs = [10.0, 12.0]
    old = write_report(tmp_path / "old.json", {"theirs": theirs, "slower": [5, 5], "like": [10, 9.6], "gone": [1, 1]})
    new = write_report(tmp_path / "new.json", {"theirs": theirs, "slower": [8, 8], "like": [9, 10.8]}, "B")
    assert compare(old, new) == 1
    assert capsys.readouterr().out.splitlines() == [
        "processor: A then, B now",
        "forward: slower: 2.20 (2.00 to 2.40) then, 1.38 (1.25 to 1.50) now, 0.62 times as much",
        "1 of 2 ratios changed beyond their spread; 1 is in one report only.",
    ]
    assert compare(new, old) == 0  # it became faster
    assert "1.38 (1.25 to 1.50) then, 2.20 (2.00 to 2.40) now, 1.60 times as much" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"machine": {}, "parts": {"model": [{"title": "a"}]}}'])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"report.json: is no report of scripts/benchmark.py; name a benchmark.json"):
        compare(path, path)


@pytest.mark.parametrize("arguments", [["compare"], ["model", "old.json"]])
def test_compare_needs_the_earlier_report(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse_arguments()
    assert stopped.value.code == 2
    assert "compare takes the report of an earlier run" in capsys.readouterr().err


def test_peak_is_that_of_all_processes_that_are_started() -> None:
    """Two processes that write 200 MiB each; Python itself has 10 or so."""
    script = "block = bytearray(b'1' * 2**20) * 200; print(len(block), flush=True); input()"

    def run() -> None:
        pipe = subprocess.PIPE
        running = [subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) for _ in range(2)]
        assert [int(process.stdout.readline()) for process in running] == [200 * 2**20] * 2
        looks = len(seen)
        wait_until(lambda: len(seen) >= looks + 3, 60)  # of each process by the thread that watches
        for process in running:
            process.communicate(b"go on\n", 60)

    seen: list[int] = []
    look = memory.share_of_memory
    with pytest.MonkeyPatch.context() as patched:
        others = descendants(os.getpid())  # of the process that runs the tests
        patched.setattr(memory, "descendants", lambda pid: set(descendants(pid)) - set(others))
        patched.setattr(memory, "share_of_memory", lambda pid: seen.append(pid) or look(pid))
        assert 400 < memory.peak_mebibytes(run) < 480


def test_descendants() -> None:
    """Of a process that runs tests, which may have started others before."""
    before = descendants(os.getpid())
    with busy_core():
        (child,) = set(descendants(os.getpid())) - set(before)
        assert child in descendants(os.getppid())
    assert child not in descendants(os.getpid())


def test_largest_batch_is_found_by_halving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of 1 GiB, and 50 MiB an image: 8 GiB hold 143 images, and so 136, a multiple of 8."""
    monkeypatch.setattr(memory, "peak_of_steps", lambda _, batch, __: 2**30 + batch * 50 * 2**20)
    assert memory.largest_batch(lambda: None, "float32") == 136


def test_process_that_asks_for_too_much_is_over_the_limit() -> None:
    assert memory.peak_of_steps(ask_for_too_much, 1, "float32") > memory.LIMIT


def ask_for_too_much(*_: object) -> None:
    torch.empty(2 * memory.LIMIT, dtype=torch.uint8)
