# SPDX-License-Identifier: Apache-2.0
"""What a run prints."""

import contextlib
import fcntl
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, Project, config_with
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from core import reports


def test_the_end_names_images_left_out_and_other_weights(
    trained_project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """150 images in batches of 16 leave 6; model_weights_path is the file of another run."""
    monkeypatch.chdir(trained_project.root)
    monkeypatch.setenv("EXP_NAME", "MobileNetV2-Colours")
    config = config_with(exp_name="MobileNetV2-Colours", batch_size=16, model_weights_path="results/other/best.pth.tar")
    config.__file__ = "config.py"
    reports.print_end(config, SimpleNamespace(num_images=150, score="acc1"), num_batches=9)
    left_out, weights, commands = capsys.readouterr().out.splitlines()[1:]
    assert left_out.startswith("Each epoch left out 6 of 150 training images")
    expected = 'To use them, set config.py line 89: model_weights_path = "results/MobileNetV2-Colours/best.pth.tar".'
    assert weights == expected
    assert commands.startswith("Go on with `EXP_NAME=MobileNetV2-Colours python3 inference.py IMAGE`")


@pytest.mark.parametrize(("batch_size", "is_named"), [(1, True), (2, False)])
def test_one_image_a_batch_is_named_before_the_run(
    batch_size: int, is_named: bool, capsys: pytest.CaptureFixture
) -> None:
    config = config_with(batch_size=batch_size, image_size=64, __file__=str(ROOT / "config.py"))
    state = SimpleNamespace(network=nn.Linear(1, 1), device="cpu", dtype=torch.float32, epoch=0, num_images=9)
    state.frozen_blocks = 0
    reports.print_run(config, state, num_batches=9, num_valid_images=9, start=None, note="")
    assert ("batch_size = 1 (config.py line 56): batch-norm sees one" in capsys.readouterr().out) == is_named


@pytest.mark.parametrize(("first", "is_timed"), [(9, False), (8, True)])
def test_no_speed_is_told_of_an_epoch_whose_batches_an_earlier_run_did(
    first: int, is_timed: bool, capsys: pytest.CaptureFixture
) -> None:
    """It goes on with the validation: 0 images in next to no time are no rate."""
    state = SimpleNamespace(position=first, epoch=1, scheduler=SimpleNamespace(get_last_lr=lambda: [0.1]))
    progress = reports.Progress(config_with(epochs=2), state, 9, reports.SilentWriter())
    averages = {"loss": 1.5, "acc1": 50.0, "acc5": 90.0}
    progress.report(9, averages)
    printed = capsys.readouterr().out
    timed = r" Time 0.\d{3} s Data 0%", r" \d+ images/s Left 0:00:00"
    before, after = timed if is_timed else ("", "")
    assert re.fullmatch(rf"Epoch: \[2\]\[9/9\]{before} Loss 1.5000 Acc@1 50.00 Acc@5 90.00{after}\n", printed)
    told = reports.describe_speed(averages | progress.speed(9))
    assert re.fullmatch(r" \d+ images/s 0:00:00" if is_timed else "", told)


def test_what_the_training_loss_has_beyond_that_of_validation_is_named() -> None:
    bare = {"loss_label_smoothing": 0, "model_dropout": 0, "random_crop_scale": None}
    taken_with = "The two losses do not compare: that of training is taken with "
    assert reports.compare_losses(config_with(**bare)).startswith(f"{taken_with}weights that still move;")
    shipped = reports.compare_losses(config_with())
    assert shipped.startswith(f"{taken_with}label smoothing, dropout, augmentation, weights that still move;")
    assert "mixed images" in reports.compare_losses(config_with(cutmix_alpha=1.0))


@pytest.mark.parametrize(
    ("train_loss", "valid_loss", "expected"),
    [
        (10.7557, 2226.1659, "The training loss 10.76 is far above 2.30"),  # Digits, model_lr = 10, first epoch
        (2.5970, 77.6946, "The validation loss 77.69 is far above 2.30"),  # Digits, model_lr = 1, second epoch
        (2.2814, 2.3492, ""),  # Digits as shipped, first epoch
        (2.4, 4.5, ""),  # one that is sure of wrong answers
    ],
)
def test_a_loss_far_above_that_of_guessing_is_named(
    train_loss: float, valid_loss: float, expected: str, capsys: pytest.CaptureFixture
) -> None:
    """Guessing among 10 classes has loss ln 10 = 2.30."""
    config = config_with(model_lr=10, __file__=str(ROOT / "config.py"))
    reports.warn_of_rate(config, train_loss, valid_loss, math.log(10))
    printed = capsys.readouterr().out
    assert printed.startswith(expected) and bool(printed) == bool(expected)
    assert not printed or "model_lr = 10 (config.py line 58) is too high" in printed


def test_tensorboard_has_every_curve_and_the_pictures_once(trained_project: Project) -> None:
    events = EventAccumulator(str(trained_project.root / "samples/logs/MobileNetV2-Colours"))
    events.Reload()
    train_tags = {f"Train/{name}" for name in ("Loss", "Acc@1", "Acc@5", "Learning rate", "Images per second")}
    valid_tags = {f"Valid/{name}" for name in ("Loss", "Acc@1", "Acc@5", "Macro")}
    assert set(events.Tags()["scalars"]) == train_tags | valid_tags
    assert [event.step for event in events.Scalars("Train/Loss")] == [
        9 * epoch + batch for epoch in range(6) for batch in (2, 4, 6, 8, 9)
    ]
    assert [event.step for event in events.Scalars("Valid/Acc@1")] == [9, 18, 27, 36, 45, 54]
    assert len(events.Images("Train/Augmented images")) == 1


def test_terminal_shows_a_bar(project: Project) -> None:
    project.set(epochs=1)
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = os.environ | {"MODE": "train", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "train.py"], cwd=project.root, stdout=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux tells that the other end has closed
            while part := os.read(reader, 4096):
                shown += part
    os.close(reader)
    assert process.returncode == 0
    assert "| 0/6 [" in shown.decode()
    assert "Epoch: [1][2/6]" in shown.decode()
