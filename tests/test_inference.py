# SPDX-License-Identifier: Apache-2.0
"""inference.py as users run it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, Project, config_with
from PIL import Image

import inference
import model
from small_training import CLASSES

ANSWER = re.compile(r"(.{75,}) \(\s*(\d+\.\d\d)%\)")


@pytest.fixture
def pictures(trained_copy: Project) -> Project:
    """A trained project whose inference_image_path is one of its validation images."""
    trained_copy.set(inference_image_path="./data/Colours/valid/green/000.png")
    return trained_copy


def test_one_picture_gives_two_lines_and_the_likeliest_classes(pictures: Project) -> None:
    lines = pictures.run_well("inference.py").splitlines()
    weights = (pictures.root / "results/MobileNetV2-Colours/best.pth.tar").resolve()
    assert lines[0] == "Build `mobilenet_v2` model successfully."
    assert lines[1] == f"Load `mobilenet_v2` model weights `{weights}` successfully."
    answers = [ANSWER.fullmatch(line).groups() for line in lines[2:]]
    assert len(answers) == 3  # as many as classes
    assert sorted(label.rstrip() for label, _ in answers) == sorted(CLASSES)
    assert all(len(label) == 75 for label, _ in answers)
    shares = [float(share) for _, share in answers]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.05)


def test_answers_are_those_of_test_py(pictures: Project) -> None:
    printed = pictures.run_well("inference.py", "data/Colours/valid")
    blocks = re.split(r"(?m)^(\S+\.png):\n", printed)[1:]
    answers = {blocks[i]: blocks[i + 1].split()[0] for i in range(0, len(blocks), 2)}
    assert len(answers) == 15
    pictures.run_well("test.py", mode="test")
    rows = (pictures.root / "results/MobileNetV2-Colours/predictions.csv").read_text().splitlines()[1:]
    tested = {row.split(",")[0].removeprefix("./"): row.split(",")[2] for row in rows}
    assert answers == tested


@pytest.mark.parametrize("image_size", [32, 64])
def test_many_pictures_get_the_answers_of_few(pictures: Project, image_size: int) -> None:
    """From 200 on, another form of the network classifies them."""
    pictures.set(image_size=image_size)
    few = answers_of(pictures.run_well("inference.py", "data/Colours/valid"))
    names = sorted(few)
    (pictures.root / "many").mkdir()
    for number in range(200):
        shutil.copy(pictures.root / names[number % 15], pictures.root / f"many/{number:03}.png")
    printed = pictures.run_well("inference.py", "many")
    assert "warn" not in printed.lower()
    assert ("was trained with image_size = 32; config.py line 26 has 64" in printed) == (image_size == 64)
    many = answers_of(printed)
    for number in range(200):
        for label, share in many[f"many/{number:03}.png"].items():
            assert share == pytest.approx(few[names[number % 15]][label], abs=0.011)  # printed in steps of 0.01


def test_a_graph_that_cannot_be_built_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(model, "as_one_graph", fail)
    config = SimpleNamespace(precision="float32", compile_model=False, image_size=32)
    network = model.mobilenet_v2(num_classes=3)
    images = torch.randn(1, 3, 32, 32)
    classify = inference.speed_up(network, config, torch.device("cpu"), num_images=200)
    torch.testing.assert_close(classify(images), network.eval()(images).detach())


def answers_of(printed: str) -> dict[str, dict[str, float]]:
    """The shares of the classes of each picture."""
    blocks = re.split(r"(?m)^(\S+\.png):\n", printed)[1:]
    texts = zip(blocks[::2], blocks[1::2], strict=True)
    return {name: {label.rstrip(): float(share) for label, share in ANSWER.findall(text)} for name, text in texts}


def test_pictures_on_the_command_line_replace_the_one_in_config(pictures: Project) -> None:
    printed = pictures.run_well("inference.py", "data/Colours/valid/red/001.png", "data/Colours/valid/blue")
    names = re.findall(r"(?m)^(\S+):$", printed)
    assert names == ["data/Colours/valid/red/001.png"] + [f"data/Colours/valid/blue/00{n}.png" for n in range(5)]


def test_camera_orientation_is_honoured(pictures: Project) -> None:
    with Image.open(pictures.root / "data/Colours/valid/red/000.png") as image:
        upright = image.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    upright.save(pictures.root / "upright.png")
    upright.rotate(90, expand=True).save(pictures.root / "turned.png", exif=exif)
    upright.rotate(90, expand=True).save(pictures.root / "sideways.png")
    printed = pictures.run_well("inference.py", "upright.png", "turned.png", "sideways.png")
    upright_answer, turned, sideways = re.split(r"(?m)^\w+\.png:\n", printed)[1:]
    assert turned == upright_answer
    assert sideways != upright_answer


def test_labels_come_from_the_label_file(pictures: Project) -> None:
    labels = {"0": "the sky", "1": "grass", "2": "a" * 80}
    (pictures.root / "labels.txt").write_text(json.dumps(labels))
    pictures.set(class_label_file="labels.txt")
    answers = [ANSWER.fullmatch(line)[1].rstrip() for line in pictures.run_well("inference.py").splitlines()[2:]]
    assert sorted(answers) == sorted(labels.values())


def test_weights_without_class_names_need_a_label_file(pictures: Project) -> None:
    weights = pictures.root / "results/MobileNetV2-Colours/best.pth.tar"
    torch.save(torch.load(weights, weights_only=True)["state_dict"], weights)
    assert "set class_label_file in config.py" in pictures.refusal("inference.py")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2, 3]", "not a JSON object"),
        ("{", "not a JSON object"),
        ('{"0": "a"}', 'labels "0" to "2"'),
        ('{"0": "", "1": "", "2": "", "3": ""}', "no others"),
    ],
)
def test_bad_label_file_is_named(pictures: Project, content: str, message: str) -> None:
    (pictures.root / "labels.txt").write_text(content)
    pictures.set(class_label_file="labels.txt")
    assert re.match(rf"labels.txt: .*{message}", pictures.refusal("inference.py"))


def test_missing_and_damaged_pictures_are_named(pictures: Project) -> None:
    place = pictures.root / "nowhere.jpg"
    refusal = pictures.refusal("inference.py", "nowhere.jpg")
    assert refusal == f"nowhere.jpg: no such image or folder (looked for at {place})"
    (pictures.root / "empty").mkdir()
    assert pictures.refusal("inference.py", "empty").startswith("empty: no images in this folder")
    Image.new("RGB", (40, 40), "red").save(pictures.root / "cut.jpg")
    (pictures.root / "cut.jpg").write_bytes((pictures.root / "cut.jpg").read_bytes()[:-300])
    done = pictures.run("inference.py", "cut.jpg")
    assert done.returncode == 2
    assert done.stderr.startswith("cut.jpg: not a readable image")


def test_the_readable_pictures_of_a_folder_are_classified(pictures: Project) -> None:
    red = pictures.root / "data/Colours/valid/red"
    whole = answers_of(pictures.run_well("inference.py", "data/Colours/valid/red"))
    for name in ("001", "003"):
        (red / f"{name}.png").write_bytes(b"")
    done = pictures.run("inference.py", "data/Colours/valid/red")
    assert done.returncode == 1
    summary, *named = done.stderr.splitlines()
    assert summary == "2 of 5 pictures could not be read:"
    assert [line.partition(": ")[0] for line in named] == [f"data/Colours/valid/red/{n}.png" for n in ("001", "003")]
    assert all(": not a readable image" in line for line in named)
    readable = {name: answer for name, answer in whole.items() if not name.endswith(("001.png", "003.png"))}
    assert answers_of(done.stdout) == readable


def test_infinite_logits_are_no_answer() -> None:
    config = config_with(precision="float32", __file__=str(ROOT / "config.py"))
    network = lambda images: torch.tensor([[0.0, float("inf")]])  # noqa: E731
    with pytest.raises(
        FloatingPointError, match=r"^a logit became infinite or NaN; .* \(config.py line 89\) to others"
    ):
        inference.most_likely_classes(network, config, torch.device("cpu"), np.zeros((40, 40, 3), np.uint8))


def test_five_answers_of_more_classes(tmp_path: Path, trained_project: Project) -> None:
    project = Project(tmp_path)
    for index in range(4):
        for split in ("train", "valid"):
            shutil.copytree(tmp_path / f"data/Colours/{split}/red", tmp_path / f"data/Colours/{split}/red{index}")
    project.set(model_num_classes=7, epochs=1, inference_image_path="./data/Colours/valid/red/000.png")
    project.run_well("train.py")
    assert len(project.run_well("inference.py").splitlines()) == 2 + 5


def test_start_imports_nothing_for_training() -> None:
    program = "import sys, torch, cv2; before = set(sys.modules); import inference; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"imgproc", "model", "utils"} <= loaded
    assert not loaded & {"torchvision", "PIL", "tensorboard", "tqdm", "scipy", "dataset", "train", "test", "timm"}


def test_compiling_that_does_not_work_is_announced(pictures: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = pictures.run_well("inference.py").splitlines()
    pictures.set(compile_model=True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(pictures.root / "cache"))
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    lines = pictures.run("inference.py").stdout.splitlines()
    announced = [line for line in lines if line.startswith("compile_model: torch.compile does not work here")]
    assert len(announced) == 1
    assert [line for line in lines if line not in announced] == plain
