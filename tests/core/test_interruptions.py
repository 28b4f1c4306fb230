# SPDX-License-Identifier: Apache-2.0
"""Training that is interrupted in any phase and resumed ends with the bits of training that was not."""

import json
import os
import re
import signal
import threading

import pytest
import torch
from checkpoint_files import assert_equal, read
from conftest import Project
from interrupted_runs import INTERRUPTED, RESULTS, SAMPLES, prepare, run_afresh_and_signal, run_and_signal, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shared.processes import session_processes

# 6 batches an epoch in steps of 4 and 2; the line after which the signal comes, the signal, batches done then
PHASES = {
    "before the first batch": ("TensorBoard:", signal.SIGTERM, 0),
    "the middle": ("Epoch: [1][2/6]", signal.SIGINT, 4),
    "the last batch": ("Epoch: [1][6/6]", signal.SIGTERM, 6),
    "validation": ("Test: [1/2]", signal.SIGINT, 6),
    "between two epochs": (" * Epoch 2/3", signal.SIGTERM, 0),
}
# Sends the signal to itself when a file is written for the nth time, in the middle of that write.
SIGNAL_IN_A_WRITE = """
import os, runpy, signal, sys
left, sync = int(sys.argv[1]), os.fsync
def signal_and_sync(descriptor):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGTERM)
    sync(descriptor)
os.fsync = signal_and_sync
runpy.run_path("train.py", run_name="__main__")
"""


# Stands for torch.compile: another process works for the first step, and a signal comes meanwhile.
# It inherits what torch's compilers inherit; like them it would die of the signal.
COMPILING = """
import runpy, subprocess, sys, torch
from torch import nn
COMPILE = "import os, signal; os.killpg(os.getpgrp(), signal.{0}); signal.sigwait([signal.{0}])"
def compile_slowly(network, backend):
    forward = network.forward
    def compile_and_forward(images):
        network.forward = forward
        subprocess.run([sys.executable, "-c", COMPILE], check=True)
        return forward(images)
    network.forward = compile_and_forward
nn.Module.compile = compile_slowly
torch.compile = lambda function: function
runpy.run_path("train.py", run_name="__main__")
"""


# A read that never ends, in a worker or in the main process, after the first epoch; a second signal counts at once.
HANGING = """
import runpy, sys, threading, dataset
from core import interruptions
interruptions.SECOND_SIGNAL_SECONDS = 0
getitem = dataset.ImageDataset.__getitem__
def read_or_hang(self, key):
    if key[0] == 1:  # the epoch
        print("hangs", flush=True)
        threading.Event().wait()
    return getitem(self, key)
dataset.ImageDataset.__getitem__ = read_or_hang
runpy.run_path("train.py", run_name="__main__")
"""


def logged(project: Project) -> dict[str, list[tuple[int, float]]]:
    """Every value in TensorBoard's files that does not measure time, by its step."""
    events = EventAccumulator(str(project.root / "samples/logs/MobileNetV2-Colours"))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "second" not in tag]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def assert_same_end(project: Project, straight: Project) -> None:
    """Checkpoint, weights and TensorBoard, but for the value of `resume` in the record."""
    one, other = (read(p.root / SAMPLES / "epoch_3.pth.tar") for p in (project, straight))
    one["config"].pop("resume"), other["config"].pop("resume")
    assert_equal(one, other)
    for name in ("best.pth.tar", "last.pth.tar"):
        assert_equal(read(project.root / RESULTS / name), read(straight.root / RESULTS / name))
    assert logged(project) == logged(straight)
    names = sorted(os.listdir(project.root / SAMPLES))
    assert names == sorted(os.listdir(straight.root / SAMPLES)) == ["epoch_2.pth.tar", "epoch_3.pth.tar"]


@pytest.mark.parametrize(
    ("num_workers", "precision", "phases"),
    [
        (0, "float32", list(PHASES)),
        (2, "bfloat16", list(PHASES)),
        (2, "float32", ["the middle", "validation"]),
        (0, "bfloat16", ["the last batch", "between two epochs"]),
    ],
)
def test_interrupted_run_ends_like_the_uninterrupted_one(
    project: Project, tmp_path_factory: pytest.TempPathFactory, num_workers: int, precision: str, phases: list[str]
) -> None:
    prepare(project, num_workers=num_workers, precision=precision)
    straight = project.copy_to(tmp_path_factory.mktemp("straight") / "project")
    expected = [line for line in straight.run_well("train.py").splitlines() if line.startswith("Epoch:")]
    project.set(resume="auto")
    printed = []
    for phase in phases:
        line_start, number, position = PHASES[phase]
        status, lines = run_and_signal(project, line_start, number)
        assert status == 128 + number, lines
        assert sum(line.startswith(f"{number.name}: stopped after batch {position} of epoch") for line in lines) == 1
        assert read(project.root / INTERRUPTED)["position"] == position
        printed += lines
    printed += project.run_well("train.py").splitlines()
    assert_same_end(project, straight)
    # the averages of the epoch lines are those of the whole epoch, whoever did its first batches
    shown = {averages_of(line) for line in printed if line.startswith("Epoch:")}
    assert shown == {averages_of(line) for line in expected}


def averages_of(line: str) -> str:
    """An epoch line without what measures time, which one has not that only ends an epoch."""
    return re.sub(r" \d+ images/s Left .*", "", re.sub(r" Time \S+ s Data \d+%", "", line))


@pytest.mark.parametrize("write", [1, 4, 6])
def test_signal_while_a_file_is_written(project: Project, trained_writes: Project, write: int) -> None:
    """Two fsyncs a file: 1 in last.pth.tar, 4 in best.pth.tar, 6 in epoch_1.pth.tar; the write is finished first."""
    prepare(project)
    (project.root / "signal_in_a_write.py").write_text(SIGNAL_IN_A_WRITE)
    done = project.run("signal_in_a_write.py", str(write))
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "SIGTERM: stopped after batch 0 of epoch 2" in done.stdout
    project.set(resume="auto")
    project.run_well("train.py")
    assert_same_end(project, trained_writes)


@pytest.fixture(scope="module")
def trained_writes(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = prepare(Project(tmp_path_factory.mktemp("straight")))
    project.run_well("train.py")
    return project


@pytest.mark.parametrize(("number", "num_workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 0)])
def test_second_signal_does_no_harm(
    project: Project, trained_writes: Project, number: signal.Signals, num_workers: int
) -> None:
    prepare(project, resume="auto", num_workers=num_workers)
    done = run_afresh_and_signal(project, "Epoch: [2][1/6]", number, times=5)
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"{number.name}: finishing this step"), done.stderr
    project.set(num_workers=0)
    project.run_well("train.py")
    assert_same_end(project, trained_writes)


@pytest.mark.parametrize(("number", "num_workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 0)])
def test_second_signal_ends_a_run_whose_read_hangs(project: Project, number: signal.Signals, num_workers: int) -> None:
    prepare(project, num_workers=num_workers)
    (project.root / "hanging.py").write_text(HANGING)
    with start(project, "no line", number, script="hanging.py") as process:
        deadline = threading.Timer(60, os.killpg, [process.pid, signal.SIGKILL])
        deadline.start()
        for line in process.stdout:
            if line == "hangs\n" or line.startswith(f"{number.name}: finishing this step; sent again after"):
                os.killpg(process.pid, number)
        deadline.cancel()
    assert process.returncode == 128 + number
    assert line == f"{number.name} again: ended at once; what was saved before stays.\n"
    assert os.listdir(project.root / SAMPLES) == ["epoch_1.pth.tar"]  # and no lock
    assert not session_processes(process.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_the_network_compiles(project: Project, trained_writes: Project, number: signal.Signals) -> None:
    prepare(project, resume="auto", compile_model=True)
    (project.root / "compiling.py").write_text(COMPILING.format(number.name))
    status, lines = run_and_signal(project, "no line", number, script="compiling.py")
    assert status == 128 + number, lines
    assert lines[-1].startswith(f"{number.name}: stopped after batch 4 of epoch 1")
    project.set(compile_model=False)
    project.run_well("train.py")
    one, other = (read(p.root / SAMPLES / "epoch_3.pth.tar") for p in (project, trained_writes))
    for key in ("state_dict", "ema_state_dict", "optimizer", "epoch_sums", "best_acc1"):
        assert_equal(one[key], other[key])


def test_checkpoints_are_written_while_running(project: Project, trained_writes: Project) -> None:
    """Every step is longer than this period; after SIGKILL the run goes on within the epoch."""
    prepare(project, resume="auto", checkpoint_every_minutes=1e-6)
    status, _ = run_and_signal(project, "Epoch: [2][6/6]", signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert read(project.root / INTERRUPTED)["epoch"] == 1
    assert read(project.root / INTERRUPTED)["position"] in (4, 6)
    project.set(checkpoint_every_minutes=0)
    project.run_well("train.py")
    assert logged(project) == logged(trained_writes)
    for key in ("state_dict", "ema_state_dict", "optimizer", "epoch_sums", "best_acc1"):
        assert_equal(*(read(p.root / SAMPLES / "epoch_3.pth.tar")[key] for p in (project, trained_writes)))


def test_other_batches_within_an_epoch_are_refused(project: Project) -> None:
    prepare(project, resume="auto")
    run_and_signal(project, "Epoch: [1][2/6]", signal.SIGINT)
    project.set(batch_size=4)
    assert "cannot go on with other batches" in project.refusal("train.py")
    project.set(batch_size=8)
    (project.root / "data/Colours/train/red/000.png").unlink()
    assert "cannot go on with other batches" in project.refusal("train.py")


def test_going_back_does_not_lose_an_interrupted_run(project: Project) -> None:
    prepare(project)
    run_and_signal(project, "Epoch: [2][2/6]", signal.SIGINT)
    project.set(resume=str(SAMPLES / "epoch_1.pth.tar"))
    assert project.refusal("train.py").startswith(f"{INTERRUPTED}: may be later than the 1 epoch ")
    project.set(resume=str(INTERRUPTED))
    assert f"Resume `{INTERRUPTED}` after 1 of 3 epochs and 4 of 6 batches" in project.run_well("train.py")


def test_two_runs_at_once_are_refused(project: Project) -> None:
    process = start(project, "Epoch:", signal.SIGSTOP)
    next(line for line in process.stdout if line.startswith("Epoch:"))
    try:
        done = project.run("train.py")
    finally:
        process.kill()
        process.communicate()
    assert done.returncode == 2
    assert done.stderr == (
        f"{SAMPLES}: in use by another run, process {process.pid}; wait for its end, or choose another exp_name\n"
    )
    project.set(resume="auto")
    project.run_well("train.py")  # the lock died with its process


def test_rests_of_killed_runs_are_removed(project: Project) -> None:
    for folder in (SAMPLES, RESULTS):
        (project.root / folder).mkdir(parents=True)
        (project.root / folder / ".epoch_1.pth.tar.123.partial").write_bytes(b"half")
    project.set(epochs=1)
    project.run_well("train.py")
    assert not list(project.root.rglob("*.partial"))


def test_damaged_later_checkpoints_never_cost_the_good_one(trained_copy: Project) -> None:
    """The run goes back to epoch 3; what it writes then is the newest good one, whatever the numbers say."""
    samples = trained_copy.root / SAMPLES
    for epoch in (4, 5, 6):
        path = samples / f"epoch_{epoch}.pth.tar"
        path.write_bytes(path.read_bytes()[:-1000])
    trained_copy.set(resume="auto", keep_checkpoints=1, epochs=5)
    printed = trained_copy.run_well("train.py")
    assert printed.count("taking the one before") == 3
    assert read(samples / "epoch_5.pth.tar")["epoch"] == 5
    assert not (samples / "epoch_3.pth.tar").exists()


def test_record_names_the_number_of_processes(trained_project: Project) -> None:
    checkpoint = torch.load(trained_project.root / SAMPLES / "epoch_6.pth.tar", weights_only=True)
    assert json.loads(json.dumps(checkpoint["config"]))["num_processes"] == 1
