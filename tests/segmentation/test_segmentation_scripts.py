# SPDX-License-Identifier: Apache-2.0
"""segmentation/train.py, test.py and inference.py as users run them."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torchvision
from task_projects import (
    SMALL,
    UNNAMED,
    count_compiled,
    create_task_project,
    interrupt_and_resume,
    load_config,
    run,
    run_without_class_names,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.classification import MulticlassJaccardIndex

from core import picture_files
from core.digit_scenes import DIGITS, DigitScenes
from core.picture_sources import SceneSource
from core.settings import check_config
from segmentation import inference
from segmentation.dataset import MaskedImages
from segmentation.model import DeepLabV3
from segmentation.settings import RULES
from shared.small_training import differences, edit_config

SETTINGS = SMALL | {"exp_name": "Masks"}
CLASSES = ["background", *"0123456789"]
RESULTS, SAMPLES = Path("results/Masks"), Path("samples/Masks")


def create_project(root: Path, **values: object) -> Path:
    return create_task_project(root, "segmentation", SETTINGS | values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = create_project(tmp_path_factory.mktemp("segmentation") / "project")
    return root, run(root, "segmentation/train.py")


def test_training_leaves_weights_that_are_tested_alike(trained: tuple[Path, str]) -> None:
    root, printed = trained
    assert "24 training and 6 validation images of 11 classes; cpu, float32." in printed
    assert "Go on with `python3 segmentation/inference.py IMAGE`" in printed
    assert 'after mode = "test" (segmentation/config.py line 27).' in printed
    best = torch.load(root / RESULTS / "best.pth.tar", weights_only=True)
    checkpoint = torch.load(root / SAMPLES / "epoch_2.pth.tar", weights_only=True)
    assert best["miou"] == checkpoint["best_miou"]
    assert f"Best {best['miou']:.3f}" in printed
    assert best["model_output_stride"] == 8


@torch.no_grad()
def spread_logits(root: Path, images: torch.Tensor) -> DeepLabV3:
    """Give the trained weights a last layer that predicts many classes in some images; the network."""
    weights = torch.load(root / RESULTS / "best.pth.tar", weights_only=True)
    network = DeepLabV3(len(CLASSES), 0.35, output_stride=8)
    network.load_state_dict(weights["state_dict"])
    nn.init.normal_(network.classifier[1].weight, generator=torch.Generator().manual_seed(0))
    logits = network.eval()(images)
    network.classifier[1].bias -= logits.mean((0, 2, 3))
    torch.save(weights | {"state_dict": network.state_dict()}, root / RESULTS / "spread.pth.tar")
    return network


@pytest.mark.parametrize("count", [10, 1])
def test_scores_are_those_of_the_plain_network(trained: tuple[Path, str], count: int) -> None:
    """By torchmetrics; some classes are in no mask and are never predicted, most in a single scene."""
    root, _ = trained
    scenes = [MaskedImages(SceneSource("test", count, 64), 64)[0, index] for index in range(count)]
    images, masks = (torch.from_numpy(np.stack(each)) for each in zip(*scenes, strict=True))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (images / 255 - mean).div(std).permute(0, 3, 1, 2)
    network = spread_logits(root, images)
    changes = {"test_scenes": count, "model_weights_path": "results/Masks/spread.pth.tar"}
    edit_config(root / "segmentation/config.py", changes)
    printed = run(root, "segmentation/test.py", mode="test")
    with torch.no_grad():
        predicted = network(images).argmax(1)
    assert len(predicted.unique()) > 2
    theirs = MulticlassJaccardIndex(len(CLASSES), average="none")(predicted, masks.long())
    text = (root / RESULTS / "test.json").read_text()
    report = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    found = [report["iou"][name] for name in CLASSES]
    assert [value or 0 for value in found] == pytest.approx((100 * theirs).tolist(), abs=0.3)
    seen = {*predicted.unique().tolist(), *masks.unique().tolist()}
    assert {place for place, value in enumerate(found) if value is not None} == seen
    assert report["miou"] == pytest.approx(np.mean([value for value in found if value is not None]))
    assert f" * mIoU {report['miou']:.3f} Pixels" in printed


def test_other_output_stride_than_that_of_the_training_is_named(trained: tuple[Path, str]) -> None:
    root, _ = trained
    values = {"model_output_stride": 16, "model_weights_path": "results/Masks/best.pth.tar", "test_scenes": 2}
    edit_config(root / "segmentation/config.py", values)
    printed = run(root, "segmentation/test.py", mode="test")
    edit_config(root / "segmentation/config.py", {"model_output_stride": 8})
    assert "was trained with model_output_stride = 8; segmentation/config.py line 23 has 16" in printed


def test_colours_and_words_follow_the_classes() -> None:
    image = np.full((2, 4, 3), 100, np.uint8)
    classes = np.array([[0, 0, 0, 4], [0, 4, 4, 10]])
    assert inference.describe(classes, CLASSES) == "background 50.0%, 3 37.5%, 9 12.5%"
    mixed = inference.coloured(image, classes, len(CLASSES))
    assert np.array_equal(mixed[classes == 0], image[classes == 0])
    assert len(np.unique(mixed.reshape(-1, 3), axis=0)) == 3
    assert (mixed[classes > 0] != 100).any(axis=1).all()


def test_pixels_are_classified_where_they_are() -> None:
    """A network that takes the class from the red level, on a picture of three stripes."""

    class Reader(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return -(images[:, :1] - torch.tensor([0.0, 0.5, 1.0])[:, None, None]).square()

    image = np.zeros((90, 60, 3), np.uint8)
    image[30:60], image[60:] = 128, 255
    plain = {"model_mean_parameters": [0, 0, 0], "model_std_parameters": [1, 1, 1], "precision": "float32"}
    config = SimpleNamespace(image_size=64, **plain)
    classes = inference.classify_pixels(Reader(), config, torch.device("cpu"), image)
    assert classes.shape == (90, 60)
    expected = np.repeat([0, 1, 2], 30)[:, None]
    assert (classes == expected).mean() > 0.95


class Largest(TorchDispatchMode):
    """How many values the largest tensor has that is made meanwhile."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.values = max(self.values, made.numel() if isinstance(made, torch.Tensor) else 0)
        return made


@pytest.mark.parametrize("num_classes", [1, 2, 3, 4, 21])
@pytest.mark.parametrize(
    ("before", "size"),
    [
        *(((64, 86), size) for size in [(1000, 1343), (65, 86), (64, 86), (40, 30)]),
        *(((32, 32), (33, 33)), ((32, 43), (48, 80)), ((32, 43), (48, 81)), ((63, 64), (64, 64)), ((63, 64), (64, 65))),
        ((128, 128), (100, 100)),
    ],
)
def test_pixels_get_the_likeliest_class_in_the_memory_of_one(
    before: tuple[int, int], size: tuple[int, int], num_classes: int
) -> None:
    """The same as by torch's interpolate() and argmax() of all classes at once, also where two are alike."""
    torch.manual_seed(0)
    logits = torch.randn(1, num_classes, *before)
    logits[:, -1] = logits[:, 0]
    with Largest() as largest:
        found = inference.likeliest_classes(logits, size)
    assert size[0] < 1000 or largest.values == (3 if num_classes == 3 else 1) * size[0] * size[1]
    whole = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    assert torch.equal(found, whole[0].argmax(0))


def test_pictures_that_would_be_lost_or_huge_are_refused(
    trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = trained
    monkeypatch.chdir(tmp_path)
    for path in (Path("a/one.png"), Path("b/one.jpg")):
        path.parent.mkdir()
        path.touch()
    with pytest.raises(ValueError, match=r"^b/one.jpg: would be drawn in results/Masks/one_classes.png, as a/one.png"):
        picture_files.choose_targets([Path("a/one.png"), Path("b/one.jpg")], "Masks", "classes")
    picture = tmp_path / "line.png"
    cv2.imwrite(str(picture), np.zeros((4, 40, 3), np.uint8))
    errors = run(root, "segmentation/inference.py", str(picture), status=2)
    assert errors == f"{picture}: 40 x 4 pixels; one side is over 8 times the other; cut it in pieces\n"


def test_run_of_a_classifier_is_not_resumed(trained: tuple[Path, str], tmp_path: Path) -> None:
    root = create_project(tmp_path / "project", resume="samples/Masks/epoch_2.pth.tar")
    checkpoint = torch.load(trained[0] / SAMPLES / "epoch_2.pth.tar", weights_only=True)
    checkpoint["best_acc1"] = checkpoint.pop("best_miou")
    (root / SAMPLES).mkdir(parents=True)
    torch.save(checkpoint, root / SAMPLES / "epoch_2.pth.tar")
    errors = run(root, "segmentation/train.py", status=2)
    assert "of a run that trains something else (it has best_acc1); choose another exp_name" in errors


def test_interrupted_run_ends_with_the_same_bits(trained: tuple[Path, str], tmp_path: Path) -> None:
    root = create_project(tmp_path / "project", resume="auto")
    assert "best mIoU" in interrupt_and_resume(root, "segmentation", SAMPLES)
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
    assert run(root, "segmentation/inference.py").startswith("scene 0 of the test scenes: ")
    assert cv2.imread(str(root / RESULTS / "scene_0_classes.png")).shape == (64, 64, 3)


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


def test_weights_without_class_names_are_pointed_out(trained: tuple[Path, str]) -> None:
    tested, classified = run_without_class_names(trained[0], "segmentation", RESULTS)
    assert f"{UNNAMED} background, 0, 1 ..., in this order." in tested
    assert classified.startswith(f"{UNNAMED} background, class 1, class 2 ..., in this order.\n")


def test_the_forms_that_score_are_compiled(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_compiled(trained[0], "segmentation", SETTINGS, monkeypatch) == [1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_output_stride": 4}, "model_output_stride = 4; expected one of 8, 16, 32"),
        (
            {"model_num_classes": 1},
            "model_num_classes = 1; expected an int from 2 to 255: the background",
        ),
        ({"batch_size": 1}, "batch_size = 1 leaves the batch-norm of the pooled image one value"),
        ({"model_output_stride": 8.0}, "model_output_stride = 8.0; expected one of 8, 16, 32"),
        ({"lr_warmup_epochs": 2}, "lr_warmup_epochs = 2 is not below epochs = 2"),
    ],
)
def test_values_that_cannot_be_are_named_with_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, object], message: str
) -> None:
    monkeypatch.setenv("MODE", "train")
    config = load_config(tmp_path / "config.py", "segmentation", SETTINGS | values)
    with pytest.raises(ValueError, match=rf"^config.py line \d+: {re.escape(message)}"):
        check_config(config, "train", RULES)


def test_errors_name_the_config_of_the_task(tmp_path: Path) -> None:
    root = create_project(tmp_path / "project", image_size=32)
    errors = run(root, "segmentation/train.py", status=2)
    assert errors == "segmentation/config.py line 16: image_size = 32; expected an int >= 64\n"
    assert not (root / "results").exists()
