# SPDX-License-Identifier: Apache-2.0
"""train.py and test.py under torchrun, in several processes on the CPU: the results are those of one process."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Copy, Project

from shared.small_training import write_images

SAMPLES = "samples/MobileNetV2-Colours"
RESULTS = "results/MobileNetV2-Colours"
# train.py in double precision: in single precision, rounding grows by about 80 a step in so small a network of so few
# images (float64: 4e-14 after the first step, 2e-10 after the third), and hides whether the sums are right.
IN_DOUBLE = """
import torch
torch.set_default_dtype(torch.float64)
import config, dataset, train
from core import folding
folding.has_fused_convolution = lambda *arguments: False  # it works in single precision
single = dataset.normalize
dataset.normalize = lambda images, mean, std: single(images, mean.float(), std.float()).double()
train.main(config)
"""


@contextlib.contextmanager
def start(
    project: Project, processes: int, script: str = "train.py", *options: str, is_forked: bool = True
) -> Iterator[subprocess.Popen | Copy]:
    """Start a script under torchrun in a session of its own, which is killed in the end if it still runs.

    is_forked: by forked_torchrun.py, five seconds sooner.
    """
    environment = project.environment("test" if script == "test.py" else "train")
    command = ["--standalone", f"--nproc_per_node={processes}", *options, script]
    errors = project.root / "errors.txt"
    errors.touch()
    if is_forked:
        torchrun = str(ROOT / "tests/forked_torchrun.py")
        process = project.start(torchrun, *command, errors=errors, MODE=environment["MODE"])
    else:
        command = [sys.executable, "-m", "torch.distributed.run", *command]
        streams = {"stdout": subprocess.PIPE, "stderr": errors.open("w"), "text": True}
        where = {"cwd": project.root, "env": environment | {"PYTHONWARNINGS": ""}, "start_new_session": True}
        with streams["stderr"]:
            process = subprocess.Popen(command, **streams, **where)
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):  # it has ended just now
                    os.killpg(process.pid, signal.SIGKILL)


def run(project: Project, processes: int, script: str = "train.py", *options: str, is_forked: bool = True) -> list[str]:
    """Run a script under torchrun that must succeed, without a warning; returns the lines it printed."""
    with start(project, processes, script, *options, is_forked=is_forked) as process:
        lines = end_of(process)
    errors = (project.root / "errors.txt").read_text()
    assert process.returncode == 0, f"{lines}\n{errors}"
    assert "Warning" not in errors
    return lines


def wait_for(process: subprocess.Popen, beginning: str) -> list[str]:
    """Read what a script prints up to the line with this beginning."""
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"no line {beginning!r} in {lines}")


def end_of(process: subprocess.Popen) -> list[str]:
    """The lines that a script prints from here to its end."""
    lines = process.stdout.read().splitlines()
    process.wait(timeout=100)
    return lines


def workers(process: subprocess.Popen) -> list[int]:
    """The processes that torchrun has started and that still run, in the order of their ranks."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    is_script = {int(pid): b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children.split()}
    return [pid for pid, is_worker in is_script.items() if is_worker]


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def read(project: Project, name: str) -> dict[str, Any]:
    return torch.load(project.root / SAMPLES / name, weights_only=True)


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """The leaves of a checkpoint by their names."""
    if not isinstance(value, (dict, list, tuple)):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: leaf for key, item in items for path, leaf in flatten(item, f"{name}/{key}").items()}


def is_same(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def assert_same_bits(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Two checkpoints are equal bit for bit, but for the record of config.py."""
    first, second = ({k: v for k, v in c.items() if k != "config"} for c in (first, second))
    leaves, others = flatten(first), flatten(second)
    assert leaves.keys() == others.keys()
    assert [name for name in leaves if not is_same(leaves[name], others[name])] == []


def assert_no_doubled_lines(lines: list[str]) -> None:
    """Only process 0 has printed."""
    trained = [line for line in lines if line.startswith(("Epoch: ", " * Epoch"))]
    assert len(set(trained)) == len(trained), lines
    assert sum(line.startswith("Build ") for line in lines) == 1


def started_like(other: Project, root: Path) -> Project:
    """A copy of a project without its runs."""
    copy = other.copy_to(root)
    shutil.rmtree(root / "samples", ignore_errors=True)
    shutil.rmtree(root / "results", ignore_errors=True)
    return copy


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after an epoch of one plain process in double precision, with 16 images a step."""
    project = Project(tmp_path_factory.mktemp("whole"))
    (project.root / "double.py").write_text(IN_DOUBLE)
    project.set(epochs=1, batch_size=16, sync_batch_norm=True, model_dropout=0.0)
    project.run_well("double.py")
    return project


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max((first[name] - second[name]).abs().max().item() for name in first)


def test_two_half_batches_are_one_whole_batch(whole: Project, tmp_path: Path) -> None:
    project = started_like(whole, tmp_path / "project")
    project.set(batch_size=8)
    assert_no_doubled_lines(run(project, 2, "double.py"))
    one, two = (read(each, "epoch_1.pth.tar") for each in (whole, project))
    for weights in ("state_dict", "ema_state_dict"):
        difference = largest_difference(one[weights], two[weights])
        print(f"{weights}: largest difference {difference:.1e}")
        assert difference < 1e-7
    assert one["state_dict"]["features.0.0.weight"].dtype == torch.float64
    assert one["state_dict"]["features.0.1.num_batches_tracked"] == 3


def test_one_process_gives_the_bits_of_the_plain_script(whole: Project, tmp_path: Path) -> None:
    project = started_like(whole, tmp_path / "project")
    assert_no_doubled_lines(run(project, 1, "double.py", is_forked=False))
    assert_same_bits(read(project, "epoch_1.pth.tar"), read(whole, "epoch_1.pth.tar"))


def test_two_processes_share_the_outputs_of_frozen_blocks(trained_project: Project, tmp_path: Path) -> None:
    """Of a classifier alone the steps of two half batches are those of whole ones, but for rounding."""
    weights = []
    for processes in (1, 2):
        project = started_like(trained_project, tmp_path / str(processes))
        shutil.copy(trained_project.root / RESULTS / "best.pth.tar", project.root / "start.pth.tar")
        project.set(pretrained_model_weights_path="start.pth.tar", frozen_blocks=19, cached_views=2, epochs=2)
        project.set(random_crop_scale=(0.5, 1.0), precision="float32", batch_size=8 // processes)
        lines = run(project, processes) if processes > 1 else project.run_well("train.py").splitlines()
        assert sum(line.startswith("Outputs of the frozen blocks for 2 x 144 images") for line in lines) == 1
        weights.append(read(project, "epoch_2.pth.tar")["state_dict"])
    assert largest_difference(*weights) < 1e-4


def test_scores_are_those_of_one_process(whole: Project, tmp_path: Path) -> None:
    project = whole.copy_to(tmp_path / "project")
    shutil.rmtree(project.root / "data/Colours/valid")
    write_images(project.root / "data/Colours/valid", 7, seed=1)
    project.set(batch_size=4)  # 21 images: 5 batches of 4 and one of 1
    files = [project.root / RESULTS / name for name in ("predictions.csv", "test.json")]
    last_line = project.run_well("test.py", mode="test").splitlines()[-1]
    expected = [file.read_bytes() for file in files]
    for processes in (2, 3, 4):
        for file in files:
            file.unlink()
        lines = run(project, processes, "test.py", is_forked=processes != 2)
        assert lines[-1] == last_line
        assert len(set(lines)) == len(lines)
        assert [file.read_bytes() for file in files] == expected, processes


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after 4 epochs of 6 steps in 2 processes, each with its own batch-norm and dropout."""
    project = Project(tmp_path_factory.mktemp("uninterrupted"))
    project.set(epochs=4, batch_size=4, train_print_frequency=1, mixup_alpha=0.2)
    assert_no_doubled_lines(run(project, 2))
    return project


def test_a_signal_ends_all_processes_and_nothing_is_lost(uninterrupted: Project, tmp_path: Path) -> None:
    project = started_like(uninterrupted, tmp_path / "project")
    with start(project, 2, is_forked=False) as process:
        lines = wait_for(process, "Epoch: [2][2/6]")
        pids = workers(process)
        os.killpg(process.pid, signal.SIGTERM)  # as a terminal does; torchrun then sends it once more
        lines += end_of(process)
    assert process.returncode != 0
    assert len(pids) == 2
    assert not any(is_running(pid) for pid in pids)
    assert lines[-1].startswith("SIGTERM: stopped after batch ")
    assert_no_doubled_lines(lines)
    assert (project.root / SAMPLES / "interrupted.pth.tar").exists()
    project.set(resume="auto")
    assert_no_doubled_lines(run(project, 2))
    assert_same_bits(read(project, "epoch_4.pth.tar"), read(uninterrupted, "epoch_4.pth.tar"))


def test_torchrun_restarts_after_a_kill_where_the_newest_checkpoint_is(uninterrupted: Project, tmp_path: Path) -> None:
    project = started_like(uninterrupted, tmp_path / "project")
    with start(project, 2, "train.py", "--max-restarts=1", is_forked=False) as process:
        wait_for(process, "Epoch: [2][2/6]")
        os.kill(workers(process)[0], signal.SIGKILL)  # the one that holds the folder
        lines = end_of(process)
    assert process.returncode == 0, (project.root / "errors.txt").read_text()
    assert any(line.startswith(f"Resume `{SAMPLES}/epoch_1.pth.tar` after 1 of 4 epochs") for line in lines)
    assert any(line.startswith(" * Epoch 4/4 ") for line in lines)
    assert_same_bits(read(project, "epoch_4.pth.tar"), read(uninterrupted, "epoch_4.pth.tar"))


def test_a_restart_does_not_lift_a_refusal(uninterrupted: Project, tmp_path: Path) -> None:
    """The run that lies there is of another start of torchrun, whose refusal is no reason to go on with it."""
    project = uninterrupted.copy_to(tmp_path / "project")
    project.set(epochs=5)
    with start(project, 2, "train.py", "--max-restarts=1") as process:
        lines = end_of(process)
    assert process.returncode != 0
    assert (project.root / "errors.txt").read_text().count("of an earlier run with exp_name = ") == 2
    assert not any(line.startswith("Resume") for line in lines)
    assert not (project.root / SAMPLES / "epoch_5.pth.tar").exists()
