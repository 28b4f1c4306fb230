# SPDX-License-Identifier: Apache-2.0
"""segmentation/train.py, test.py and inference.py as users run them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from conftest import ROOT

from core.digit_scenes import DigitScenes
from segmentation.dataset import DIGITS
from shared.small_training import copy_program, differences, edit_config

SMALL = {
    **{"exp_name": "Masks", "device": "cpu", "image_size": 64, "model_width_mult": 0.35, "train_scenes": 24},
    **{"valid_scenes": 6, "test_scenes": 10, "num_workers": 2, "epochs": 2, "batch_size": 8, "lr_warmup_epochs": 0.5},
    **{"model_ema_decay": 0.5, "train_print_frequency": 1, "valid_print_frequency": 1, "test_print_frequency": 9},
}
RESULTS, SAMPLES = Path("results/Masks"), Path("samples/Masks")


def create_project(root: Path, **values: object) -> Path:
    copy_program(root)
    shutil.copytree(ROOT / "segmentation", root / "segmentation", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data").mkdir()
    shutil.copy(ROOT / "data/digits.csv.gz", root / "data")
    edit_config(root / "segmentation/config.py", SMALL | values)
    return root


def run(root: Path, *arguments: str, mode: str = "train", status: int = 0) -> str:
    """Run a script; what it printed, or its errors."""
    environment = os.environ | {"MODE": mode, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("EXP_NAME", None)
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = create_project(tmp_path_factory.mktemp("segmentation") / "project")
    return root, run(root, "segmentation/train.py")


def test_training_leaves_weights_that_are_tested_alike(trained: tuple[Path, str]) -> None:
    root, printed = trained
    assert "24 training and 6 validation images of 11 classes; cpu, float32." in printed
    assert "Go on with `python3 segmentation/inference.py IMAGE`" in printed
    best = torch.load(root / RESULTS / "best.pth.tar", weights_only=True)
    checkpoint = torch.load(root / SAMPLES / "epoch_2.pth.tar", weights_only=True)
    assert best["miou"] == checkpoint["best_miou"]
    assert f"Best {best['miou']:.3f}" in printed
    assert best["model_output_stride"] == 8
    edit_config(root / "segmentation/config.py", {"test_scenes": 6})
    tested = run(root, "segmentation/test.py", mode="test")
    assert f" * mIoU {best['miou']:.3f} Pixels" in tested
    report = json.loads((root / RESULTS / "test.json").read_text())
    assert report["images"] == 6
    assert report["miou"] == pytest.approx(np.nanmean(list(report["iou"].values())))


def test_interrupted_run_ends_with_the_same_bits(trained: tuple[Path, str], tmp_path: Path) -> None:
    root = create_project(tmp_path / "project", resume="auto")
    environment = os.environ | {"MODE": "train", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "segmentation/train.py"]
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("Epoch: [2][1/3]"))
        process.send_signal(signal.SIGTERM)
        assert "`samples/Masks/interrupted.pth.tar` written" in process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "best mIoU" in run(root, "segmentation/train.py")
    ends = [torch.load(each / SAMPLES / "epoch_2.pth.tar", weights_only=True) for each in (trained[0], root)]
    ends[1]["config"]["resume"] = ends[0]["config"]["resume"]
    assert list(differences(*ends)) == []


def test_inference_colours_a_picture_of_any_size(trained: tuple[Path, str], tmp_path: Path) -> None:
    root, _ = trained
    scene = DigitScenes(DIGITS, "valid", seed=0, num_scenes=1, side=90)[0]
    picture = tmp_path / "scene.png"
    cv2.imwrite(str(picture), cv2.cvtColor(scene.image[:70], cv2.COLOR_RGB2BGR))
    printed = run(root, "segmentation/inference.py", str(picture))
    assert printed.startswith(f"{picture}: ")
    shares = [float(word.rstrip("%,;")) for word in printed.split() if word.rstrip(",;").endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.6)
    assert cv2.imread(str(root / RESULTS / "scene_classes.png")).shape == (70, 90, 3)


def test_weights_of_a_classifier_are_a_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = torchvision.models.mobilenet_v2(width_mult=0.35).state_dict()
    root = create_project(tmp_path / "project", pretrained_model_weights_path="weights.pth", epochs=1, model_lr=1e-12)
    torch.save(weights, root / "weights.pth")
    assert "Load pretrained weights `weights.pth`, those of the features." in run(root, "segmentation/train.py")
    trained = torch.load(root / RESULTS / "last.pth.tar", weights_only=True)["state_dict"]
    for name in ("features.0.0.weight", "features.17.conv.2.weight"):
        torch.testing.assert_close(trained[name], weights[name], rtol=0, atol=1e-6)
    torch.save({name: value for name, value in weights.items() if "features.17" not in name}, root / "weights.pth")
    shutil.rmtree(root / "samples")
    shutil.rmtree(root / "results")
    errors = run(root, "segmentation/train.py", status=2)
    assert errors.startswith("weights.pth: its weights are not those of this network: missing ['features.17.conv")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_output_stride": 4}, "model_output_stride = 4; expected one of 8, 16, 32"),
        ({"batch_size": 1}, "batch_size = 1 leaves the batch-norm of the pooled image one value"),
        ({"image_size": 32}, "image_size = 32; expected an int >= 64"),
        ({"lr_warmup_epochs": 2}, "lr_warmup_epochs = 2 is not below epochs = 2"),
    ],
)
def test_values_that_cannot_be_are_named_with_their_line(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    root = create_project(tmp_path / "project", **values)
    errors = run(root, "segmentation/train.py", status=2)
    assert errors.startswith("segmentation/config.py line ")
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (root / "results").exists()
