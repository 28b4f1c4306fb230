# SPDX-License-Identifier: Apache-2.0
"""Mistakes of users, made as users make them: one line, exit status 2, nothing created or overwritten."""

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Project
from PIL import Image

from model import MobileNetV2


def misspell(project: Project) -> None:
    config = project.root / "config.py"
    config.write_text(config.read_text().replace("dataset_name =", "dataset_nam ="))


def break_syntax(project: Project) -> None:
    config = project.root / "config.py"
    config.write_text(config.read_text().replace("seed = 0", "seed = = 0"))


def remove_classes(project: Project) -> None:
    shutil.rmtree(project.root / "data/Colours/train")
    (project.root / "data/Colours/train").mkdir()


def rename_class(project: Project) -> None:
    (project.root / "data/Colours/valid/red").rename(project.root / "data/Colours/valid/rot")


def save_foreign_weights(project: Project) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, project.root / "foreign.pth")
    project.set(pretrained_model_weights_path="foreign.pth")


def save_damaged_weights(project: Project) -> None:
    torch.save(MobileNetV2(3, 0.35).state_dict(), project.root / "cut.pth")
    (project.root / "cut.pth").write_bytes((project.root / "cut.pth").read_bytes()[:9999])
    project.set(pretrained_model_weights_path="cut.pth")


def resume_from_weights(project: Project) -> None:
    torch.save(MobileNetV2(3, 0.35).state_dict(), project.root / "weights.pth")
    project.set(resume="weights.pth")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (misspell, r"config.py line \d+: name 'dataset_name' is not defined"),
        (break_syntax, r"config.py line \d+: invalid syntax: seed = = 0"),
        (lambda p: p.set(mode="test"), r'config.py line 36: mode = "test"; this script needs "train"'),
        (lambda p: p.set(bad_images="ignore"), r'config.py line 46: bad_images = .ignore.; expected "stop" or "skip"'),
        (lambda p: p.set(batch_size=0), r"config.py line \d+: batch_size = 0; expected an int >= 1"),
        (lambda p: p.set(device="cuda:77"), r'device = "cuda:77", but torch sees \d+ GPUs'),
        (lambda p: shutil.rmtree(p.root / "data"), r"./data/Colours/train: no such folder"),
        (remove_classes, r"./data/Colours/train: no class folders"),
        (rename_class, r"./data/Colours/valid: its class folders are not those .*missing \['red'\], unknown \['rot'\]"),
        (lambda p: p.set(model_num_classes=4), r"./data/Colours/train: 3 class folders \(.*set it to 3; if not"),
        (lambda p: p.set(batch_size=64), r"./data/Colours/train: 48 images, fewer than batch_size = 64"),
        (
            lambda p: p.set(pretrained_model_weights_path="no.pth"),
            r"no.pth: no such file; correct pretrained_model_weights_path \(config.py line 50\); "
            r"`python3 scripts/download_weights.py` fetches published weights \(looked for at /.*no.pth\)",
        ),
        (save_foreign_weights, r"foreign.pth: its weights are not those of this network"),
        (save_damaged_weights, r"cut.pth: damaged or not a PyTorch checkpoint"),
        (resume_from_weights, r"weights.pth: cannot be resumed, it has no epoch"),
    ],
)
def test_train_refuses(project: Project, spoil: Callable[[Project], None], message: str) -> None:
    spoil(project)
    assert re.match(message, project.refusal("train.py"))


def test_validation_on_the_training_images_is_named_and_a_missing_checkpoint_refused(project: Project) -> None:
    project.set(valid_image_dir="./data/../data/Colours/train", resume="no.pth.tar")
    done = project.run("train.py")
    assert "./data/../data/Colours/train: training and validation have the same images; the scores" in done.stdout
    assert done.returncode == 2
    assert re.fullmatch(
        r'no.pth.tar: no such checkpoint; set resume \(config.py line 53\) to "auto", "" or one in samples '
        r"\(looked for at /.*no.pth.tar\)\n",
        done.stderr,
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_train_names_a_truncated_jpeg(project: Project, num_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not become grey pixels; here it comes up in the first epoch, so no checkpoint is written.

    Nor do the workers that it ends leave their folders.
    """
    path = project.root / "data/Colours/train/red/bad.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    project.set(num_workers=num_workers)
    with tempfile.TemporaryDirectory() as temporary:  # tmp_path may be too long a name for sockets
        monkeypatch.setenv("TMPDIR", temporary)
        done = project.run("train.py")
        left = list(Path(temporary).glob("pymp-*"))
    assert done.returncode == 2
    assert re.match(r"./data/Colours/train/red/bad.jpg: not a readable image \(\d+ bytes\)", done.stderr)
    assert done.stderr.count("\n") == 1
    assert not list((project.root / "samples").glob("MobileNetV2-Colours/*"))
    assert not left


def test_train_leaves_unreadable_images_out_on_request(project: Project) -> None:
    for name in ("red/001.png", "blue/002.png"):
        (project.root / "data/Colours/train" / name).write_bytes(b"")
    for split in ("train", "valid"):
        (project.root / f"data/Colours/{split}/green/notes.txt").touch()
    (project.root / "data/Colours/train/red/1.cr2").touch()
    project.set(bad_images="skip", num_workers=2, mixup_alpha=0.2)
    lines = project.run_well("train.py").splitlines()
    counts = [line for line in lines if line.startswith("Left out")]
    others = [line.partition(";")[0] for line in lines if "left out" in line]
    assert others == [
        "./data/Colours/train: left out 1 .cr2 (camera raw: export as JPEG), 1 .txt",
        "./data/Colours/valid: left out 1 .txt",
    ]
    assert counts == ["Left out 2 unreadable training images; scripts/check_dataset.py names them."] * 2


def test_an_unreadable_validation_image_stops_training_whatever_is_asked(project: Project) -> None:
    (project.root / "data/Colours/valid/red/001.png").write_bytes(b"")
    project.set(bad_images="skip")
    done = project.run("train.py")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("./data/Colours/valid/red/001.png: not a readable image (0 bytes)")


def test_train_stops_when_the_loss_is_not_finite(project: Project) -> None:
    project.set(model_lr=1e30)
    done = project.run("train.py")
    assert done.returncode == 2
    assert re.match(
        r"(the loss|a gradient) became infinite or NaN in batch \d+ of epoch 1 \(\./data/Colours/train/[^()]+\); "
        r"lower model_lr \(config.py line 58\); the checkpoints before it stay\n",
        done.stderr,
    )


def change_weights_record(project: Project, **values: object) -> None:
    path = project.root / "results/MobileNetV2-Colours/best.pth.tar"
    torch.save(torch.load(path, weights_only=True) | values, path)


def let_weights_diverge(project: Project) -> None:
    """All weights are finite, and so is none of the logits."""
    path = project.root / "results/MobileNetV2-Colours/best.pth.tar"
    weights = torch.load(path, weights_only=True)
    weights["state_dict"]["classifier.1.weight"].fill_(3e38)
    torch.save(weights, path)


def score_a_checkpoint_with_another_mean(project: Project) -> None:
    project.set(model_weights_path="samples/MobileNetV2-Colours/epoch_6.pth.tar", model_mean_parameters=[0, 0, 0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.set(test_image_dir="./nowhere"), r"./nowhere: no such folder"),
        (lambda p: p.set(model_weights_path="./no.pth"), r"./no.pth: no such file; train first"),
        (lambda p: p.set(model_num_classes=4), r".*best.pth.tar: classifier.1.weight is .* check model_width_mult and"),
        (
            lambda p: p.set(model_width_mult=0.5),
            r".*: trained with model_width_mult = 0.35; set config.py line 30",
        ),
        (
            lambda p: p.set(model_mean_parameters=[0.5, 0.5, 0.5]),
            r".*model_mean_parameters = \[0.485, .*line 31",
        ),
        (rename_class, r"./data/Colours/valid: its class folders are not those of the training set"),
        (
            let_weights_diverge,
            r"the loss became nan in 15 images; the run that .* model_weights_path \(config.py line 89",
        ),
        (score_a_checkpoint_with_another_mean, r"samples/.*epoch_6.pth.tar: trained with model_mean_parameters"),
    ],
)
def test_test_refuses(trained_copy: Project, spoil: Callable[[Project], None], message: str) -> None:
    spoil(trained_copy)
    assert re.match(message, trained_copy.refusal("test.py", mode="test"))


def test_test_needs_its_mode(trained_copy: Project) -> None:
    assert 'this script needs "test"' in trained_copy.refusal("test.py", mode="train")


def test_test_names_a_damaged_image(trained_copy: Project) -> None:
    path = trained_copy.root / "data/Colours/valid/red/001.png"
    path.write_bytes(path.read_bytes()[:-100])
    before = trained_copy.snapshot()
    done = trained_copy.run("test.py", mode="test")
    assert done.returncode == 2
    # libpng says a line of its own before ours
    assert done.stderr.splitlines()[-1].startswith("./data/Colours/valid/red/001.png: not a readable image")
    assert "Traceback" not in done.stderr
    assert trained_copy.snapshot() == before
