# SPDX-License-Identifier: Apache-2.0
"""scripts/kill_storm.py: a short storm on the program, and on writers that are wrong on purpose, which it must find."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from command_runs import run_command
from conftest import ROOT

from core import checkpoints, resuming
from shared import processes, small_training
from shared.small_training import SAMPLES, SmallTraining, create_project, edit_config
from storms import system_calls
from storms.record import FAULTS, RECORD, TITLES, Tally, add_to_record, read_record, totals_table
from storms.runs import RunStorm, can_lock
from storms.system_calls import Traced, TracingRefusedError, WriteOrder
from storms.writer import WriterStorm, storm_writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and ptrace")


def storm(*arguments: str, record: Path, status: int = 0) -> tuple[dict, str]:
    """Run kill_storm.py as a user would; returns the counts it recorded, and what it printed."""
    done = run_command(ROOT / "scripts/kill_storm.py", *arguments, "--json", record, folder=record.parent)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(record.read_text())[-1]["counts"], done.stdout


def test_writer_leaves_a_whole_checkpoint_at_every_system_call(short_path: Path, capsys: pytest.CaptureFixture) -> None:
    counts, printed = storm("writer", "--writes", "1", "--kills", "10", record=short_path / "record.json")
    for name in FAULTS["writer"]:
        assert counts[name] == 0, printed
    if counts["stops"] == 0:
        assert counts["timed_kills"] == 11
        with capsys.disabled():
            print(f"\nNOT TESTED here, system call by system call: {printed.splitlines()[0]}")
        return
    assert counts["writes"] == 1
    assert counts["stops"] > 30
    assert counts["kills"] == 10
    assert counts["old_files"] + counts["new_files"] == counts["stops"] + counts["kills"]
    assert counts["new_files"] > 0


def test_writers_are_killed_at_random_times_where_ptrace_is_refused(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(system_calls, "load_ptrace", lambda: lambda *arguments: -1)
    tally = storm_writer(short_path.resolve(), writes=1, kills=12, seed=0)
    assert capsys.readouterr().out.startswith("ptrace is not permitted on this machine: the writers are killed at")
    assert tally.counts["timed_kills"] == tally.counts["old_files"] + tally.counts["new_files"] == 13
    assert tally.is_good(), tally.faults


def test_killed_runs_end_like_the_uninterrupted_one(short_path: Path) -> None:
    size = ("--epochs", "8", "--images", "16", "--spread", "0.4")
    counts, printed = storm("runs", "--runs", "1", "--kills", "2", *size, record=short_path / "record.json")
    assert counts["runs"] == 1
    assert counts["kills"] == counts["restarts"] == 2, printed
    for name in FAULTS["runs"]:
        assert counts[name] == 0, printed


# Writers that are wrong on purpose, each with the counts it must raise.


def save_in_place(path: Path, state: checkpoints.TrainState, config: ModuleType) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "write_atomically", lambda path, write: write(path))
        checkpoints.save_train_state(path, state, config)


def save_without_sync(path: Path, state: checkpoints.TrainState, config: ModuleType) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        checkpoints.save_train_state(path, state, config)


def save_without_folder_sync(path: Path, state: checkpoints.TrainState, config: ModuleType) -> None:
    fsync = os.fsync
    with pytest.MonkeyPatch.context() as patch:
        is_folder = os.path.isdir
        patch.setattr(os, "fsync", lambda d: None if is_folder(f"/proc/self/fd/{d}") else fsync(d))
        checkpoints.save_train_state(path, state, config)


def save_after_removing(path: Path, state: checkpoints.TrainState, config: ModuleType) -> None:
    path.unlink(missing_ok=True)
    checkpoints.save_train_state(path, state, config)


def save_other_weights(path: Path, state: checkpoints.TrainState, config: ModuleType) -> None:
    """One bit of one weight is another."""
    weight = state.network.state_dict()["classifier.1.bias"]
    weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    checkpoints.save_train_state(path, state, config)


@contextlib.contextmanager
def writer_storm(short_path: Path, save: object) -> Iterator[WriterStorm]:
    project = short_path.resolve() / "project"
    create_project(project, images_per_class=1, model_width_mult=0.1)
    with contextlib.chdir(project):
        yield WriterStorm(project, save=save)


@pytest.mark.parametrize(
    ("save", "fault", "line"),
    [
        (save_in_place, "unreadable", "unreadable: after openat"),
        (save_in_place, "order_faults", "order_faults: written in place"),
        (save_without_sync, "order_faults", "order_faults: renamed before its data were synced"),
        (save_without_folder_sync, "order_faults", "order_faults: folder not synced after the rename"),
        (save_after_removing, "unreadable", "unreadable: after a system call"),
        (save_other_weights, "failed_writes", "failed_writes: the writer ended with status 0"),
    ],
)
def test_wrong_writers_are_found(short_path: Path, save: object, fault: str, line: str) -> None:
    with writer_storm(short_path, save) as one:
        try:
            one.watch_write()
        except TracingRefusedError as error:
            pytest.skip(f"{error}; the next test kills a wrong writer at random times")
        assert one.tally.counts[fault] > 0
        assert line in one.tally.faults
        assert not one.tally.is_good()


def test_wrong_writer_is_found_by_kills_at_random_times(short_path: Path) -> None:
    with writer_storm(short_path, save_in_place) as one:
        one.kill_at_times(20)
        assert one.tally.counts["timed_kills"] == 20
        assert one.tally.counts["unreadable"] > 0


def test_restart_that_goes_too_far_back_is_found(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer_storm(short_path, checkpoints.save_train_state) as one:
        older = one.folder / "epoch_2.pth.tar"
        assert older.exists()
        monkeypatch.setattr(resuming, "resume_training", lambda state, config: older)
        one.kill_at_times(1)
        assert one.tally.counts["failed_restarts"] == 1


def test_order_of_calls_by_hand(short_path: Path) -> None:
    """The calls of a careful writer, as this test makes them."""
    final, partial = short_path.resolve() / "file", short_path.resolve() / "partial"

    def write() -> None:
        with open(partial, "wb", buffering=0) as file:
            file.write(b"one")
            file.write(b"two")
            os.fsync(file.fileno())
        os.rename(partial, final)
        folder = os.open(short_path, os.O_RDONLY)
        os.fsync(folder)

    order = WriteOrder(final)
    try:
        writer = Traced(write)
    except TracingRefusedError as error:
        pytest.skip(str(error))
    for stop in writer.stops():
        order.follow(stop)
    assert writer.status == 0
    assert [re.sub("at$|at2$", "", call) for call in order.calls] == [
        *("open", "write", "write", "fsync", "rename", "fsync")
    ]
    assert order.finish() == []


def test_process_is_killed_at_the_stop(short_path: Path) -> None:
    """Killed before the second write is let through: the first one alone is on disk."""

    def write() -> None:
        with open(short_path / "file", "wb", buffering=0) as file:
            file.write(b"one")
            file.write(b"two")

    try:
        writer = Traced(write)
    except TracingRefusedError as error:
        pytest.skip(str(error))
    entries = (stop for stop in writer.stops() if stop.name == "write" and stop.result is None)
    next(entries), next(entries)
    writer.kill()
    assert writer.status == -signal.SIGKILL
    assert (short_path / "file").read_bytes() == b"one"


@pytest.fixture(scope="module")
def run_storm() -> Iterator[RunStorm]:
    with tempfile.TemporaryDirectory() as folder:
        one = RunStorm(Path(folder), seed=0, epochs=1, images_per_class=8, spread=1.0)
        one.run_straight()
        yield one


def changed_copy(run_storm: RunStorm, short_path: Path, **values: object) -> RunStorm:
    """A storm on a project that is, after its uninterrupted run, another."""
    one = object.__new__(RunStorm)
    vars(one).update(vars(run_storm), root=short_path, tally=Tally("runs"))
    one.straight = short_path / "straight"
    one.straight.symlink_to(run_storm.straight)
    config = run_storm.straight / "config.py"
    before = config.read_text()
    edit_config(config, values)
    try:
        one.run_killed(0, kills=0)
    finally:
        config.write_text(before)
    return one


@pytest.mark.usefixtures("forked_trainings")
def test_run_with_another_end_is_found(run_storm: RunStorm, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SHARED_MEMORY", short_path)
    (short_path / "torch_1_2_0").touch()
    monkeypatch.setattr(run_storm, "segments", {"torch_1_2_0", "torch_1_2_1"})
    one = changed_copy(run_storm, short_path, seed=1)
    assert one.tally.counts["different_runs"] == 1
    assert one.tally.counts["left_segments"] == 1
    assert not one.tally.is_good()


@pytest.mark.usefixtures("forked_trainings")
def test_run_that_fails_is_found_and_shown(run_storm: RunStorm, short_path: Path) -> None:
    one = changed_copy(run_storm, short_path, batch_size=-3)
    assert one.tally.counts["failed_restarts"] == 1
    assert re.fullmatch(
        r"failed_restarts: run 0, start 0: status 2: config.py line \d+: batch_size = -3; .*", one.tally.faults[0]
    )


def test_what_a_killed_run_leaves_is_found(
    run_storm: RunStorm, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process outside the group, a segment of shared memory, a cut checkpoint, and a temporary file of its own."""
    monkeypatch.setattr(small_training, "END_SECONDS", 0.5)
    monkeypatch.setattr(processes, "SHARED_MEMORY", short_path)
    project = short_path / "project"
    create_project(project, images_per_class=1)
    with (project / "config.py").open("a") as config:
        config.write("import subprocess as _subprocess\n")
        config.write('_subprocess.Popen(["sleep", "600"], process_group=0)\nprint("Epoch: [", flush=True)\n')
        config.write('_subprocess.run(["sleep", "600"])\n')
    (project / SAMPLES).mkdir(parents=True)
    (project / SAMPLES / "epoch_1.pth.tar").write_bytes(b"PK")
    training = SmallTraining(project)
    assert training.wait_for("Epoch: [")
    (short_path / "torch_1_2_0").touch()
    (project / SAMPLES / f".epoch_2.pth.tar.{training.process.pid}.partial").touch()
    one = object.__new__(RunStorm)
    one.tally, one.segments = Tally("runs"), set()
    one._kill(training, "here")
    expected = {"kills": 1, "kills_in_write": 1, "left_processes": 1, "kill_segments": 1, "unreadable": 1}
    assert one.tally.counts == dict.fromkeys(TITLES["runs"], 0) | expected | {"checkpoints_read": 1}
    assert not training.left_processes()


def test_held_lock_is_found(short_path: Path) -> None:
    path = short_path / ".lock"
    assert can_lock(path)
    path.touch()
    assert can_lock(path)
    code = (
        f"import fcntl, sys; f = open({str(path)!r}, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert not can_lock(path)
        holder.communicate(b"\n")
    assert can_lock(path)


def test_counts_add_up(short_path: Path) -> None:
    record = short_path / "record.json"
    for unreadable in (0, 1):
        tally = Tally("writer")
        tally.add("stops", 1000)
        if unreadable:
            tally.fault("unreadable", "after write")
        add_to_record(record, tally, seed=unreadable)
    entries = read_record(record)
    assert [entry["faults"] for entry in entries] == [[], ["unreadable: after write"]]
    assert "| writer | storms | 2 |" in totals_table(entries)
    assert "| writer | stops before and after a system call, the file checked at each | 2,000 |" in totals_table(
        entries
    )
    assert "| writer | checks that found no whole checkpoint | 1 |" in totals_table(entries)


@pytest.mark.parametrize("text", ["{", "[1]", '[{"part": "writer", "counts": {"other": 1}}]', '[{"part": "x"}]'])
def test_what_is_no_record_is_refused(short_path: Path, text: str) -> None:
    (short_path / "record.json").write_text(text)
    with pytest.raises(ValueError, match="record.json: "):
        read_record(short_path / "record.json")


def test_page_shows_the_totals_of_the_record() -> None:
    """After a storm with --json docs/reliability.json: kill_storm.py totals prints the table to put there."""
    assert totals_table(read_record(RECORD)) in (ROOT / "docs/reliability.md").read_text()
