# SPDX-License-Identifier: Apache-2.0
"""test.py as users run it, against torchvision's own network and pipeline."""

import csv
import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy
import pytest
import torch
import torchvision
from conftest import Project, config_with
from PIL import Image
from torchvision import transforms

from core.class_names import name_classes
from shared.small_training import CLASSES

WEIGHTS = "results/MobileNetV2-Colours/best.pth.tar"
# Of three classes no best five.
LAST_LINE = r" \* Acc@1 (\d+\.\d{3}) Err@1 (\d+\.\d{3}) Macro (\d+\.\d{3}) \((\d+) images\)"


def reference_probabilities(root: Path, size: int = 32) -> dict[str, torch.Tensor]:
    """The plain torchvision pipeline on the validation images: file -> probabilities."""
    network = torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.35).eval()
    network.load_state_dict(torch.load(root / WEIGHTS, weights_only=True)["state_dict"])
    pipeline = transforms.Compose(
        [
            *(transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size), transforms.ToTensor()),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    files = sorted((root / "data/Colours/valid").glob("*/*.png"))
    with torch.inference_mode():
        logits = network(torch.stack([pipeline(Image.open(file).convert("RGB")) for file in files]))
    return {str(file.relative_to(root)): row for file, row in zip(files, logits.softmax(dim=1), strict=True)}


@pytest.fixture(scope="module")
def tested(trained_project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A copy of the trained project after test.py, and what that printed."""
    project = trained_project.copy_to(tmp_path_factory.mktemp("tested") / "project")
    project.set(precision="float32")
    return project, project.run_well("test.py", mode="test")


def test_last_line_is_what_torchvision_counts(tested: tuple[Project, str]) -> None:
    project, printed = tested
    acc1, err1, macro, images = re.fullmatch(LAST_LINE, printed.splitlines()[-1]).groups()
    reference = reference_probabilities(project.root)
    hits = sum(sorted(CLASSES)[row.argmax()] == Path(file).parent.name for file, row in reference.items())
    assert int(images) == len(reference) == 15
    assert float(acc1) == pytest.approx(100 * hits / 15, abs=1e-3)
    assert float(err1) == pytest.approx(100 - float(acc1))
    assert macro == acc1  # the classes have 5 images each


def test_predictions_are_those_of_torchvision(tested: tuple[Project, str]) -> None:
    project, _ = tested
    check_predictions(project.root, reference_probabilities(project.root))


def test_one_graph_predicts_what_torchvision_does(tested: tuple[Project, str], tmp_path: Path) -> None:
    """As from 2,000 photos on: 15 images in batches of 4."""
    project = tested[0].copy_to(tmp_path / "project")
    path, build = project.root / "core/folding.py", "        torch.jit.enable_onednn_fusion(True)\n"
    text = path.read_text()
    assert "\nMANY_PIXELS = 100_000_000" in text and text.count(build) == 1
    text = text.replace("\nMANY_PIXELS = 100_000_000", "\nMANY_PIXELS = 1")
    path.write_text(text.replace(build, f'        print("Building for", len(self.example))\n{build}'))
    project.set(image_size=64, batch_size=4)
    printed = project.run_well("test.py", mode="test")
    assert printed.count("Building for 4\n") == printed.count("Building") == 1
    check_predictions(project.root, reference_probabilities(project.root, 64))


def check_predictions(root: Path, reference: dict[str, torch.Tensor]) -> None:
    """The file has the images in their order, and for each the classes and probabilities of the reference."""
    with open(root / "results/MobileNetV2-Colours/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [str(Path(row["file"])) for row in rows] == list(reference)
    for row, expected in zip(rows, reference.values(), strict=True):
        assert row["true_class"] == Path(row["file"]).parent.name
        order = expected.argsort(descending=True)
        for rank, index in enumerate(order.tolist(), start=1):
            assert row[f"class_{rank}"] == sorted(CLASSES)[index]
            assert float(row[f"probability_{rank}"]) == pytest.approx(expected[index].item(), abs=0.02)


def test_report_says_what_was_measured(tested: tuple[Project, str]) -> None:
    project, printed = tested
    report = json.loads((project.root / "results/MobileNetV2-Colours/test.json").read_text())
    acc1, *_ = re.fullmatch(LAST_LINE, printed.splitlines()[-1]).groups()
    assert f"{report['acc1']:.3f}" == acc1
    assert (report["acc5"], report["err5"]) == (100.0, 0.0)  # all three are among the best five
    assert report["err1"] == pytest.approx(100 - report["acc1"])
    assert report["images"] == 15
    assert report["macro"] == pytest.approx(report["acc1"])
    predictions = project.root / "results/MobileNetV2-Colours/predictions.csv"
    assert report["predictions_sha256"] == hashlib.sha256(predictions.read_bytes()).hexdigest()
    assert report["weights_sha256"] == hashlib.sha256((project.root / WEIGHTS).read_bytes()).hexdigest()
    assert report["data"] == "./data/Colours/valid"
    assert report["precision"] == "float32"
    assert (report["device"], report["gpu"]) == ("cpu", None)
    versions = {library.__name__: library.__version__ for library in (torch, numpy, cv2)}
    torchvision_version = torchvision.__version__.partition("+")[0]  # without the kind of build
    assert report["versions"] == versions | {"torchvision": torchvision_version}


def named(tmp_path: Path, folders: list[str], num_classes: int, labels: dict | None = None, names: object = None):
    """What name_classes() makes of a folder, and of the names in the weights and in the label file."""
    for name in folders:
        (tmp_path / "images" / name).mkdir(parents=True)
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    label_file = str(tmp_path / "labels.json") if labels else ""
    where = {"test_image_dir": str(tmp_path / "images"), "model_weights_path": "a.pth", "class_label_file": label_file}
    return name_classes(config_with(model_num_classes=num_classes, **where), names, where["test_image_dir"])


def test_names_in_the_weights_come_first(tmp_path: Path) -> None:
    labels = {"0": "a", "1": "b", "2": "c"}
    assert named(tmp_path, ["a", "b"], 3, labels, ["c", "b", "a"]) == ["c", "b", "a"]
    with pytest.raises(ValueError, match=r"a.pth: two of its classes have one name"):
        named(tmp_path / "x", ["a", "b"], 3, None, ["a", "b", "a"])


def test_folders_of_imagenet_have_the_logits_of_published_weights(tmp_path: Path) -> None:
    """As many as ImageNet-R has; logit 1 is the goldfish, 388 the giant panda."""
    names = named(tmp_path, ["n02510455", "n01443537"], 1000)
    assert names[1] == "n01443537"
    assert names[388] == "n02510455"


def test_a_label_file_of_class_folders_names_the_logits(tmp_path: Path) -> None:
    assert named(tmp_path, ["cat", "dog"], 3, {"0": "dog", "1": "cat", "2": "ant"}) == ["dog", "cat", "ant"]
    assert named(tmp_path / "all", ["ant", "cat", "dog"], 3, {"0": "a dog", "1": "a cat", "2": "an ant"}) is None


@pytest.mark.parametrize(
    ("folders", "num_classes", "labels"),
    [
        (["cat", "dog"], 3, None),
        (["cat", "dog"], 3, {"0": "dog", "1": "cat"}),  # of another network
        (["cat", "dog"], 3, {"0": "dog", "1": "cat", "2": "dog"}),
        (["n02510455", "n01443537", "n00000000"], 1000, None),
        (["5", "7"], 1000, None),  # counted from 0 or from 1
    ],
)
def test_classes_that_nothing_names_are_refused(
    tmp_path: Path, folders: list[str], num_classes: int, labels: dict | None
) -> None:
    with pytest.raises(ValueError, match=r"class folders \(.*a.pth .* has no class names; .*line 94: class_label_file"):
        named(tmp_path, folders, num_classes, labels)


def test_score_is_the_one_training_reported(trained_project: Project, tested: tuple[Project, str]) -> None:
    acc1 = re.fullmatch(LAST_LINE, tested[1].splitlines()[-1])[1]
    assert f" Best {acc1} " in trained_project.training_output
