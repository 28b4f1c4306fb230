# SPDX-License-Identifier: Apache-2.0
"""What can go wrong around a run: files, clock, /dev/shm, numbers. It stops or warns in one line; nothing is lost."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, Project

import train
import utils
from core import checkpoints, divergence, loader_workers, metrics, moving_average, resuming, weights_files
from detection.settings import RULES
from model import MobileNetV2

SAMPLES, RESULTS, LOGS = (Path(name, "MobileNetV2-Colours") for name in ("samples", "results", "samples/logs"))
# Runs train.py and does something to its folder, once, after a line that begins so.
DISTURBED = """
import builtins, runpy, shutil, sys
from pathlib import Path
line_start, folders, print_line = sys.argv[1], sys.argv[2:], builtins.print
def print_and_disturb(*values, **options):
    print_line(*values, **options)
    if str(values[0]).startswith(line_start):
        for folder in folders:
            shutil.rmtree(folder)
builtins.print = print_and_disturb
sys.argv = ["train.py"]
runpy.run_path("train.py", run_name="__main__")
"""


def disturb(project: Project, line_start: str, *folders: Path | str) -> tuple[int, str]:
    """Train, and remove folders after a line; returns the status and what stood on stderr."""
    (project.root / "disturbed.py").write_text(DISTURBED)
    done = project.run("disturbed.py", line_start, *map(str, folders))
    return done.returncode, done.stderr


def test_images_that_vanish_are_named_and_the_checkpoint_stays(project: Project) -> None:
    status, error = disturb(project, " * Epoch 1/", "data/Colours/train/red")
    assert status == 2
    place = re.escape(str(project.root / "data/Colours/train/red"))
    message = rf"\./data/Colours/train/red/(\d+\.png): No such file or directory \(looked for at {place}/\1\)\n"
    assert re.fullmatch(message, error)
    assert error.count("\n") == 1
    assert weights_files.read_checkpoint(project.root / SAMPLES / "epoch_1.pth.tar")["epoch"] == 1


def test_weights_and_checkpoints_that_vanish_are_written_anew(project: Project) -> None:
    status, error = disturb(project, " * Epoch 1/", SAMPLES, RESULTS)
    assert (status, error) == (0, "")
    assert os.listdir(project.root / SAMPLES) == ["epoch_2.pth.tar"]
    assert sorted(os.listdir(project.root / RESULTS)) == ["best.pth.tar", "last.pth.tar"]


def test_clock_set_back_changes_nothing_but_says_so(project: Project) -> None:
    straight = project.copy_to(project.root / "straight")
    straight.run_well("train.py")
    project.run_well("train.py")
    (project.root / SAMPLES / "epoch_2.pth.tar").unlink()
    tomorrow = time.time() + 86400
    for path in [*(project.root / "samples").rglob("*.*"), *(project.root / "data").rglob("*.png")]:
        os.utime(path, (tomorrow, tomorrow))
    project.set(resume="auto")
    printed = project.run_well("train.py")
    assert f"{LOGS}: has files from the future" in printed
    assert f"Resume `{SAMPLES}/epoch_1.pth.tar` after 1 of 2 epochs" in printed
    one, other = (weights_files.read_checkpoint(p.root / SAMPLES / "epoch_2.pth.tar") for p in (project, straight))
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name])


def test_newest_checkpoint_is_that_of_the_last_epoch_whatever_the_clock_says(trained_copy: Project) -> None:
    samples = trained_copy.root / SAMPLES
    for age, epoch in enumerate((6, 5, 4, 3)):  # the last is the oldest by its time
        os.utime(samples / f"epoch_{epoch}.pth.tar", (age * 1000, age * 1000))
    assert [path.name for path in resuming.newest_first(samples, [])][:3] == [f"epoch_{n}.pth.tar" for n in (6, 5, 4)]


def test_small_shared_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 loaders x 2 workers x 3 batches of 8 x (3 x 1,024 + 8) bytes: 295,680."""
    assert 2 * 2 * loader_workers.BATCHES_OF_WORKER * 8 * (3 * 1_024 + 8) == 295_680
    free = 295_679
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(ValueError, match=r"^/dev/shm: 0.3 MiB free, 2 workers need 0.3 MiB; lower num_workers"):
        utils.check_workers(2, 8, 32, num_loaders=2)
    utils.check_workers(0, 8, 32, num_loaders=2)
    free = 295_680
    utils.check_workers(2, 8, 32, num_loaders=2)
    with pytest.raises(ValueError, match=r"^/dev/shm: "):  # with a mask for each image
        utils.check_workers(2, 8, 32, num_loaders=2, target_bytes=32**2)
    free = 2 * 2 * loader_workers.BATCHES_OF_WORKER * 8 * 4 * 1_024
    utils.check_workers(2, 8, 32, num_loaders=2, target_bytes=32**2)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
def test_too_long_a_temporary_folder_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that cannot make their sockets would wait for ever."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "x" * (76 - len(root) - 1))
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        project.set(num_workers=1, epochs=1)
        assert project.refusal("train.py").startswith(f"{folder}: too long a name for the folder of temporary files")
        shorter = folder.rename(str(folder)[:-1])
        monkeypatch.setenv("TMPDIR", str(shorter))
        project.run_well("train.py")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="other systems keep shared memory elsewhere")
def test_what_killed_workers_left_in_shared_memory_is_removed(project: Project) -> None:
    """The lock of a killed run names its processes; those that still run keep what they have."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, other = (Path(f"/dev/shm/torch_{number}_1_0") for number in (ended.pid, os.getpid()))
    (project.root / SAMPLES).mkdir(parents=True)
    (project.root / SAMPLES / ".lock").write_text(f"{ended.pid}\n{os.getpid()}\n")
    left.touch()
    other.touch()
    try:
        project.set(epochs=1)
        project.run_well("train.py")
        assert (left.exists(), other.exists()) == (False, True)
    finally:
        left.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


def test_lock_names_the_main_process_and_its_workers(project: Project) -> None:
    code = "import os, pathlib, train\nbuilt, train.finish_epoch = train.finish_epoch, lambda *a: (show(), built(*a))\n"
    code += f"show = lambda: print('PIDS', os.getpid(), *pathlib.Path('{SAMPLES}/.lock').read_text().split())\n"
    (project.root / "shown.py").write_text(code + "import config\ntrain.main(config)\n")
    project.set(epochs=1, num_workers=2)
    line = next(line for line in project.run_well("shown.py").splitlines() if line.startswith("PIDS"))
    main, *noted = line.split()[1:]
    assert noted[0] == main
    assert len(set(noted)) == len(noted) == 5  # 2 workers for each split


def small_state() -> checkpoints.TrainState:
    """Training as float16 does it on a GPU: the scaler works on the CPU too."""
    torch.manual_seed(0)
    network = MobileNetV2(3, 0.35)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    return checkpoints.TrainState(
        network=network,
        parallel_network=network,
        ema_network=moving_average.MovingAverage(network, 0.9),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0),
        scaler=torch.amp.GradScaler("cpu", init_scale=1024.0),
        device=torch.device("cpu"),
        dtype=torch.float32,
        class_names=["blue", "green", "red"],
        num_images=6,
        steps_per_epoch=3,
        meter=metrics.EpochMeter(torch.device("cpu")),
        finite=metrics.FiniteCheck(torch.device("cpu")),
    )


def test_steps_that_float16_skips_are_counted_and_change_no_weight() -> None:
    state = small_state()
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    for index, factor in enumerate((1.0, float("inf"), 1.0)):
        loss = state.network(torch.rand(2, 3, 32, 32)).square().mean() * factor
        state.scaler.scale(loss).backward()
        state.meter.add(torch.tensor(1.0), torch.zeros(2, 3), torch.tensor([0, 1]))
        train.take_step(state, index)
        after = {name: value.clone() for name, value in state.network.named_parameters()}
        assert all(torch.equal(before[name], after[name]) for name in before) == (factor != 1.0)
        assert all(value.isfinite().all() for value in after.values())
        before = after
    assert state.meter.averages()["skipped"] == 1
    assert state.scaler.get_scale() == 512.0  # halved once
    assert state.finite.first_batches() == [metrics.NO_BATCH] * 2  # another would stop training


def test_a_checkpoint_with_the_classes_in_another_order_is_not_resumed() -> None:
    """As before folders 0 to 11 came in the order of their numbers: the labels would be other classes'."""
    checkpoint = {key: kind() for key, kind in checkpoints.TRAIN_STATE_TYPES.items()} | {"best_acc1": 0.0}
    state = small_state()
    state.class_names = [str(number) for number in range(12)]
    with pytest.raises(ValueError, match=r"another order, \['0', '1', '10'\]..., .* finish it with the version that"):
        checkpoints.check_train_state("epoch_1", checkpoint | {"class_names": sorted(state.class_names)}, state)
    with pytest.raises(ValueError, match=r"trained on other classes"):
        checkpoints.check_train_state("epoch_1", checkpoint | {"class_names": state.class_names[1:]}, state)


def test_the_order_of_a_folder_with_boxes_is_not_laid_to_an_earlier_version() -> None:
    """There classes.txt or the ids of categories decide, and people can put them back."""
    checkpoint = {key: kind() for key, kind in checkpoints.TRAIN_STATE_TYPES.items()} | {"best_map": 0.0}
    state = small_state()
    state.rules, state.score, state.class_names = RULES, "map", ["dog", "cat"]
    with pytest.raises(ValueError, match=r"another order, \['cat', 'dog'\]...; give them that order in .* classes.txt"):
        checkpoints.check_train_state("epoch_1", checkpoint | {"class_names": ["cat", "dog"]}, state)


@pytest.mark.parametrize(
    ("losses", "norms", "least", "words"),
    [
        (
            (1.0, float("nan")),
            (1.0, float("nan")),
            1,
            r"the loss .* in batch 2 of epoch 1 \(b.png\); lower model_lr",
        ),
        ((1.0, 1.0), (1.0, float("inf")), metrics.NO_BATCH, r"a gradient .* in batch 2 of epoch 1 \(b.png\); lower"),
        ((1.0, float("inf")), (float("nan"), 1.0), 1, r"a gradient .* in batch 1 of epoch 1 \(a.png\); lower"),
        ((1.0, 1.0), (1.0, float("nan")), 1, r"the loss .* in batch 2 of epoch 1 \(of another process, which names"),
    ],
)
def test_the_first_number_that_is_not_finite_is_named(
    monkeypatch: pytest.MonkeyPatch, losses: tuple, norms: tuple, least: int, words: str
) -> None:
    """`least`: the first batch with such a loss in all processes."""
    state = small_state()
    for number, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        state.finite.add_loss(number, torch.tensor(loss))
        state.finite.add_gradient(number, torch.tensor(norm))
    monkeypatch.setattr(divergence, "least_over_processes", lambda _: least)
    batches = SimpleNamespace(files=lambda number: ["ab"[number] + ".png"])
    config = SimpleNamespace(__file__=str(ROOT / "config.py"), mode="train")
    with pytest.raises(FloatingPointError, match=f"^{words}"):
        divergence.stop_if_not_finite(config, state, batches)
