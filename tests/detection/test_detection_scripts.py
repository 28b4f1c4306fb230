# SPDX-License-Identifier: Apache-2.0
"""detection/train.py, test.py and inference.py as users run them."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torchvision
from conftest import ROOT, ready_interpreter
from task_projects import (
    SMALL,
    UNNAMED,
    count_compiled,
    create_task_project,
    environment,
    interrupt_and_resume,
    load_config,
    run,
    run_without_class_names,
)
from torch import nn
from torchmetrics.detection import MeanAveragePrecision

from core.digit_scenes import DIGITS, DigitScenes, split_scenes
from core.settings import check_config
from detection import inference
from detection.model import SSDLite, score_form
from detection.settings import RULES
from shared.small_training import differences, edit_config

SETTINGS = SMALL | {"exp_name": "Boxes"}
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
RESULTS, SAMPLES = Path("results/Boxes"), Path("samples/Boxes")


def create_project(root: Path, **values: object) -> Path:
    return create_task_project(root, "detection", SETTINGS | values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = create_project(tmp_path_factory.mktemp("detection") / "project")
    return root, run(root, "detection/train.py")


def test_training_leaves_weights(trained: tuple[Path, str]) -> None:
    root, printed = trained
    assert "24 training and 6 validation images of 10 classes; cpu, float32." in printed
    assert "Go on with `python3 detection/inference.py IMAGE`" in printed
    assert "mAP@0.5" in printed
    best = torch.load(root / RESULTS / "best.pth.tar", weights_only=True)
    checkpoint = torch.load(root / SAMPLES / "epoch_2.pth.tar", weights_only=True)
    assert best["map"] == checkpoint["best_map"]
    assert f"Best {best['map']:.3f}" in printed


def test_all_of_the_network_is_trained(trained: tuple[Path, str]) -> None:
    root, _ = trained
    checkpoint = torch.load(root / SAMPLES / "epoch_2.pth.tar", weights_only=True)
    groups = checkpoint["optimizer"]["param_groups"]
    assert sum(len(group["params"]) for group in groups) == len(list(SSDLite(10, 64, 0.35).parameters()))


def test_scores_are_those_of_the_plain_network(trained: tuple[Path, str]) -> None:
    """By torchmetrics, of what the network itself finds."""
    root, _ = trained
    scenes = split_scenes("test", 10, 64)
    network = SSDLite(10, 64, 0.35)
    weights = torch.load(root / RESULTS / "best.pth.tar", weights_only=True)
    network.load_state_dict(weights["state_dict"])
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    with torch.no_grad():
        found = network.detections(network.eval().outputs((images / 255 - mean).div(std).permute(0, 3, 1, 2)))
    ious, recalls = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision(iou_thresholds=ious, rec_thresholds=recalls)  # its own are rounded to float32
    metric.warn_on_many_detections = False
    truth = [{"boxes": torch.from_numpy(s.boxes), "labels": torch.from_numpy(s.labels) + 1} for s in scenes]
    metric.update(found, truth)
    theirs = metric.compute()
    printed = run(root, "detection/test.py", mode="test")
    report = json.loads((root / RESULTS / "test.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    # Two finds whose scores are equal but for the rounding of the folded form may come in the other order: of 25
    # networks it moved one by 0.004 at an IoU of 0.5, and its mean over the ten IoUs by a tenth of that.
    assert report["map"] == pytest.approx(100 * theirs["map"].item(), abs=0.002)
    assert report["map50"] == pytest.approx(100 * theirs["map_50"].item(), abs=0.02)
    assert report["images"] == 10
    assert (report["data"], report["split"]) == ("scenes of digits", "test")
    shares = [share for share in report["ap"].values() if share is not None]
    assert report["map"] == pytest.approx(np.mean(shares))
    assert f" * mAP {report['map']:.3f} mAP@0.5 {report['map50']:.3f} (10 images)" in printed


def test_interrupted_run_ends_with_the_same_bits(trained: tuple[Path, str], tmp_path: Path) -> None:
    root = create_project(tmp_path / "project", resume="auto")
    assert "best mAP" in interrupt_and_resume(root, "detection", SAMPLES)
    ends = [torch.load(each / SAMPLES / "epoch_2.pth.tar", weights_only=True) for each in (trained[0], root)]
    ends[1]["config"]["resume"] = ends[0]["config"]["resume"]
    assert list(differences(*ends)) == []


def test_processes_score_as_one(trained: tuple[Path, str]) -> None:
    """By torchrun's forked twin: the finds of all processes, in the order of the pictures."""
    root, _ = trained
    edit_config(root / "detection/config.py", {"batch_size": 2, "exp_name": "Boxes", "num_workers": 0})
    edit_config(root / "detection/config.py", {"model_weights_path": "results/Boxes/best.pth.tar"})
    reports = []
    run(root, "detection/test.py", mode="test")
    reports.append(json.loads((root / RESULTS / "test.json").read_text()))
    words = ["--standalone", "--nproc-per-node", "2", "detection/test.py"]
    done = ready_interpreter().run([str(ROOT / "tests/forked_torchrun.py"), *words], root, environment("test"))
    assert done.returncode == 0, done.stderr
    reports.append(json.loads((root / RESULTS / "test.json").read_text()))
    losses = [report.pop("loss") for report in reports]
    assert losses[0] == pytest.approx(losses[1])
    assert reports[0] == reports[1]


def test_weights_of_a_classifier_are_a_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = torchvision.models.mobilenet_v2(width_mult=0.35).state_dict()
    root = create_project(tmp_path / "project", pretrained_model_weights_path="weights.pth", epochs=1, model_lr=1e-12)
    torch.save(weights, root / "weights.pth")
    assert "Load pretrained weights `weights.pth`, those of the features." in run(root, "detection/train.py")
    trained = torch.load(root / RESULTS / "last.pth.tar", weights_only=True)["state_dict"]
    for name in ("features.0.0.weight", "features.18.0.weight"):
        torch.testing.assert_close(trained[name], weights[name], rtol=0, atol=1e-6)


def test_weights_of_another_task_are_named(trained: tuple[Path, str], tmp_path: Path) -> None:
    root = create_project(tmp_path / "project", pretrained_model_weights_path="other.pth.tar")
    weights = torch.load(trained[0] / RESULTS / "best.pth.tar", weights_only=True)
    torch.save(weights | {"model_arch_name": "deeplab_v3"}, root / "other.pth.tar")
    expected = "other.pth.tar: weights of segmentation (deeplab_v3), and this is detection; name others\n"
    assert run(root, "detection/train.py", status=2) == expected
    edit_config(root / "detection/config.py", {"model_weights_path": "other.pth.tar"})
    assert run(root, "detection/test.py", mode="test", status=2) == expected


def one_object(network: SSDLite, box: list[float], label: int) -> nn.Module:
    """A form that scores which finds an object of a class about the box."""
    places = torch.tensor(box) - network.anchors
    best = int(places.abs().sum(1).argmin())

    class Form(nn.Module):
        detections = staticmethod(network.detections)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            outputs = torch.zeros(1, len(network.anchors), 15)
            outputs[..., 0] = 20  # the background
            outputs[0, best, 1 + label] = 40
            outputs[0, best, -4:] = network.box_coder.encode_single(
                torch.tensor([box]), network.anchors[best : best + 1]
            )
            return outputs

    return Form()


def test_objects_are_found_where_they_are_in_the_picture() -> None:
    """A find at (16, 32, 48, 48) of 64 pixels is at twice that in 128 rows, and at four times that in 256 columns."""
    network = SSDLite(10, 64, 0.35).eval()
    plain = {"model_mean_parameters": [0, 0, 0], "model_std_parameters": [1, 1, 1], "precision": "float32"}
    config = SimpleNamespace(image_size=64, inference_score_threshold=0.5, **plain)
    form = one_object(network, [16.0, 32.0, 48.0, 48.0], 7)
    image = np.zeros((128, 256, 3), np.uint8)
    (found,) = inference.find_objects(form, config, torch.device("cpu"), image)
    assert found.label == 7
    assert found.score == pytest.approx(1)
    assert found.box == pytest.approx((64, 64, 192, 96), abs=0.01)
    assert inference.describe([found], NAMES, 0.5) == "seven 100%"
    assert inference.describe([], NAMES, 0.5) == "nothing of 50% or more"
    picture = inference.drawn(image, [found], NAMES)
    assert not image.any()
    rows, columns = np.nonzero(picture.any(axis=2))
    assert (columns.min(), columns.max()) == pytest.approx((64, 192), abs=1)
    assert rows.max() == pytest.approx(96, abs=1)
    config.inference_score_threshold = 1.0
    form = score_form(network, torch.float32)
    assert inference.find_objects(form, config, torch.device("cpu"), image) == []


def test_inference_draws_pictures_of_any_size_or_a_scene(trained: tuple[Path, str], tmp_path: Path) -> None:
    root, _ = trained
    edit_config(root / "detection/config.py", {"inference_score_threshold": 0.0})
    scene = DigitScenes(DIGITS, "valid", seed=0, num_scenes=1, side=90)[0]
    picture = tmp_path / "scene.png"
    cv2.imwrite(str(picture), cv2.cvtColor(scene.image[:70], cv2.COLOR_RGB2BGR))
    printed = run(root, "detection/inference.py", str(picture))
    assert re.fullmatch(rf"{picture}: (\d \d+%(, )?)+; drawn in results/Boxes/scene_boxes.png\n", printed)
    assert cv2.imread(str(root / RESULTS / "scene_boxes.png")).shape == (70, 90, 3)
    assert run(root, "detection/inference.py", str(tmp_path)) == printed
    assert run(root, "detection/inference.py").startswith("scene 0 of the test scenes: ")
    assert cv2.imread(str(root / RESULTS / "scene_0_boxes.png")).shape == (64, 64, 3)


def test_weights_without_class_names_are_pointed_out(trained: tuple[Path, str]) -> None:
    tested, classified = run_without_class_names(trained[0], "detection", RESULTS)
    assert f"{UNNAMED} 0, 1, 2 ..., in this order." in tested
    assert classified.startswith(f"{UNNAMED} class 1, class 2, class 3 ..., in this order.\n")


def test_the_forms_that_score_are_compiled(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_compiled(trained[0], "detection", SETTINGS, monkeypatch) == [1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_num_classes": 0}, "model_num_classes = 0; expected an int >= 1"),
        ({"batch_size": 1}, "batch_size = 1 leaves the batch-norm of the last map one value"),
        ({"random_zoom_out": 0.5}, "random_zoom_out = 0.5; expected a number from 1 to 4"),
        (
            {"random_crop_scale": (1e-9, 1.0)},
            "random_crop_scale = (1e-09, 1.0); expected None or two shares of the area from 0.001 on, like (0.1, 1.0)",
        ),
        ({"image_size": 32}, "image_size = 32; expected an int >= 64"),
        ({"inference_score_threshold": 2}, "inference_score_threshold = 2; expected a number from 0 to 1"),
    ],
)
def test_values_that_cannot_be_are_named_with_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, object], message: str
) -> None:
    monkeypatch.setenv("MODE", "train")
    config = load_config(tmp_path / "config.py", "detection", SETTINGS | values)
    with pytest.raises(ValueError, match=rf"^config.py line \d+: {re.escape(message)}"):
        check_config(config, "train", RULES)
