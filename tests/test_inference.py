# SPDX-License-Identifier: Apache-2.0
"""inference.py as users run it."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, Project, config_with
from PIL import Image

import inference
import model
import test
import utils
from core import folding
from core.class_names import load_labels
from core.image_files import load_image
from core.named_pictures import find_images
from imgproc import eval_transform, normalize
from shared.small_training import CLASSES

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

    monkeypatch.setattr(folding, "as_one_graph", fail)
    config = SimpleNamespace(precision="float32", compile_model=False, image_size=32)
    network = model.mobilenet_v2(num_classes=3)
    images = torch.randn(1, 3, 32, 32)
    classify = utils.fastest_form(network, config, torch.device("cpu"), num_images=200)
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


@pytest.fixture
def turned_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """valid/red/upright.png, and valid/blue/turned.png with these pixels on their side and orientation 6.

    The fixture makes a configuration for them, with weights that say apply_orientation = True and whose classes are
    red, green and blue in this order.
    """
    monkeypatch.chdir(tmp_path)
    upright = Image.effect_noise((40, 30), 90).convert("RGB")
    upright.paste((255, 0, 0), (0, 0, 20, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    for name, image in (("red/upright", upright), ("blue/turned", upright.rotate(90, expand=True))):
        path = tmp_path / "valid" / f"{name}.png"
        path.parent.mkdir(parents=True)
        image.save(path, exif=exif if "turned" in name else None)
    torch.manual_seed(0)
    network = model.mobilenet_v2(3, 0.35)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    network.train()(torch.randn(16, 3, 32, 32))  # statistics with which the answers differ
    described = {"state_dict": network.state_dict(), "class_names": ["red", "green", "blue"]}

    def configure(recorded: dict[str, bool], **values: object) -> ModuleType:
        torch.save(described | recorded, tmp_path / "weights.pth")
        values |= {"model_num_classes": 3, "model_width_mult": 0.35, "device": "cpu", "precision": "float32"}
        values |= {"model_weights_path": "weights.pth", "test_image_dir": "valid", "batch_size": 1, "num_workers": 0}
        return config_with(mode="test", test_print_frequency=9, **values)

    return configure


def scored_answers(config: ModuleType) -> dict[str, list[str]]:
    """What test.py writes into predictions.csv of each file."""
    test.test(config, torch.device("cpu"))
    with open(f"results/{config.exp_name}/predictions.csv", newline="") as file:
        return {Path(row[0]).stem: row[2:] for row in csv.reader(file)}


def inferred_answers(config: ModuleType, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """What inference.py prints of the turned and of the upright picture, and on stderr."""
    capsys.readouterr()
    inference.main(config, ["valid"])
    printed, errors = capsys.readouterr()
    return re.split(r"(?m)^\S+\.png:\n", printed)[1:], errors


@pytest.mark.parametrize("recorded", [{"apply_orientation": True}, {}], ids=["recorded", "older weights"])
def test_a_turned_picture_gets_one_answer_everywhere(
    turned_pictures: Callable[..., ModuleType], recorded: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    config = turned_pictures(recorded, apply_orientation=True)
    tested = scored_answers(config)
    (turned, upright), errors = inferred_answers(config, capsys)
    assert turned == upright
    assert tested["turned"] == tested["upright"]
    assert errors == ""
    shares = {label.rstrip(): float(share) / 100 for label, share in ANSWER.findall(turned)}
    assert shares == {
        name: pytest.approx(float(share), abs=1e-4)
        for name, share in zip(tested["turned"][::2], tested["turned"][1::2], strict=True)
    }


def test_a_picture_that_stays_on_its_side_is_pointed_out(
    turned_pictures: Callable[..., ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    config = turned_pictures({"apply_orientation": False}, apply_orientation=False)
    tested = scored_answers(config)
    (turned, upright), errors = inferred_answers(config, capsys)
    assert turned != upright
    assert tested["turned"] != tested["upright"]
    assert errors == (
        "valid/blue/turned.png: stored on its side (camera orientation 6), classified as stored; "
        "config.py line 99: apply_orientation\n"
    )
    with Image.open("valid/blue/turned.png") as image:
        image.save("valid/blue/turned.png")  # without the orientation
    assert scored_answers(config) == tested
    assert inferred_answers(config, capsys) == ([turned, upright], "")


@pytest.mark.parametrize("trained", [False, True])
def test_weights_that_were_trained_with_another_orientation_are_refused(
    turned_pictures: Callable[..., ModuleType], trained: bool
) -> None:
    config = turned_pictures({"apply_orientation": trained}, apply_orientation=not trained)
    for score in (lambda: test.test(config, torch.device("cpu")), lambda: inference.main(config, ["valid"])):
        with pytest.raises(ValueError, match=f"trained with apply_orientation = {trained}; set config.py line 99 to"):
            score()


def test_a_split_without_some_classes_is_scored_by_name(
    turned_pictures: Callable[..., ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    """The classes of the weights are red, green, blue; the folders are blue and red."""
    config = turned_pictures({})
    Path("valid/red/notes.txt").touch()
    answers = scored_answers(config)
    printed = capsys.readouterr().out
    assert "2 images of 2 classes at 32 pixels" in printed
    assert "valid: left out 1 .txt; the names of images end in " in printed
    assert "valid: 2 of the weights' 3 classes have images here; 1 without: green\n" in printed
    hits = (answers["turned"][0] == "blue") + (answers["upright"][0] == "red")
    assert f" * Acc@1 {50 * hits:.3f} Err@1 {100 - 50 * hits:.3f} Macro {50 * hits:.3f} (2 images)" in printed
    network = model.mobilenet_v2(3, 0.35)
    network.load_state_dict(torch.load("weights.pth", weights_only=True)["state_dict"])
    image = eval_transform(load_image("valid/red/upright.png"), 32)
    mean, std = (torch.tensor(values) for values in (config.model_mean_parameters, config.model_std_parameters))
    logits = network.eval()(normalize(torch.from_numpy(image)[None].permute(0, 3, 1, 2), mean, std))
    assert answers["upright"][0] == ["red", "green", "blue"][logits.argmax().item()]


@pytest.mark.parametrize("suffix", ["txt", "png"])
def test_what_a_folder_has_besides_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    for name in ("a.cr2", "b.cr2", "deep/c.cr2", ".d.cr2", "Thumbs.db", f"e.{suffix}"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    raw = "3 .cr2 \\(camera raw: export as JPEG\\)"
    if suffix == "png":
        assert find_images([str(tmp_path)]) == [tmp_path / "e.png"]
        assert re.fullmatch(f"{tmp_path}: left out {raw}\n", capsys.readouterr().err)
    else:
        with pytest.raises(FileNotFoundError, match=rf"no images in this folder \(.*\), but {raw}, 1 .txt$"):
            find_images([str(tmp_path)])


def written(path: Path, labels: object) -> str:
    path.write_text(json.dumps(labels))
    return str(path)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("keys_of_folders", [False, True])
@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, key=int)], ids=["of text", "of numbers"])
def test_labels_of_numbers_belong_to_the_folders_of_these_numbers(
    tmp_path: Path, first: int, keys_of_folders: bool, order: Callable
) -> None:
    """Whatever order the weights have them in: earlier versions had that of text. Counted from 0, or as the folders."""
    folders = [str(number) for number in range(first, first + 12)]
    keys = folders if keys_of_folders else [str(number) for number in range(12)]
    labels = {key: f"label of folder {folder}" for key, folder in zip(keys, folders, strict=True)}
    found = load_labels(written(tmp_path / "labels", labels), order(folders), 12)
    assert found == [f"label of folder {name}" for name in order(folders)]


def test_labels_may_be_those_of_folder_names(tmp_path: Path) -> None:
    labels = {"n01443537": "goldfish", "n01440764": "tench"}
    path = written(tmp_path / "labels", labels)
    assert load_labels(path, ["n01440764", "n01443537"], 2) == ["tench", "goldfish"]
    with pytest.raises(ValueError, match=r'"0" to "1" and no others, nor with one for each class folder \(a, b ...\)'):
        load_labels(path, ["a", "b"], 2)
    with pytest.raises(ValueError, match=r'"0" to "1" and no others$'):
        load_labels(path, None, 2)
    Path(path).write_text(json.dumps(labels), encoding="utf-8-sig")  # as Windows saves it
    assert load_labels(path, ["n01440764", "n01443537"], 2) == ["tench", "goldfish"]


def test_labels_of_imagenet_folders_need_no_names_in_the_weights(tmp_path: Path) -> None:
    """Logit 388 is the giant panda, n02510455, in the published weights."""
    synsets = (ROOT / "data/ImageNet_1K_synsets.txt").read_text().split()
    labels = {name: f"label of {name}" for name in reversed(synsets)}
    assert load_labels(written(tmp_path / "labels", labels), None, 1000)[388] == "label of n02510455"


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
    (red / "001.png").write_bytes(b"")
    (red / "003.png").unlink()
    (red / "003.png").symlink_to("nowhere.png")
    done = pictures.run("inference.py", "gone.png", "data/Colours/valid/red")
    assert done.returncode == 1
    summary, gone, *named = done.stderr.splitlines()
    assert summary == "3 of 6 pictures could not be read:"
    assert gone.startswith("gone.png: no such image or folder (looked for at ")
    assert [line.partition(": ")[0] for line in named] == [f"data/Colours/valid/red/{n}.png" for n in ("001", "003")]
    assert ": not a readable image" in named[0] and ": No such file" in named[1]
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
    lines = pictures.run_afresh("inference.py").stdout.splitlines()
    announced = [line for line in lines if line.startswith("compile_model: torch.compile does not work here")]
    assert len(announced) == 1
    assert [line for line in lines if line not in announced] == plain
