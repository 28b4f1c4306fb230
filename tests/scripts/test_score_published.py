# SPDX-License-Identifier: Apache-2.0
"""scripts/score_published.py on a few pictures, whose classes are those that a network of random weights gives them."""

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from keras_networks import save, with_weights_of
from published_files import saved

import score_published
import utils
from downloading import scoring
from downloading.published import Published, published_weights
from downloading.records import SYNSETS, write_published
from imgproc import eval_transform
from model import Definition, MobileNetV2

PUBLISHED = published_weights()
KERAS, TIMM = PUBLISHED["keras 0.35 96"], PUBLISHED["timm 0.5"]
NUM_IMAGES = 24


def prepared(picture: np.ndarray, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """RGB uint8 -> float [3, S, S]."""
    values = torch.from_numpy(eval_transform(picture, size)).permute(2, 0, 1) / 255
    return (values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def answers(network: MobileNetV2, inputs: torch.Tensor) -> list[list[int]]:
    """The five likeliest classes of each picture."""
    with torch.no_grad():
        return network.eval()(inputs).topk(5).indices.tolist()


def diverse_network(inputs: torch.Tensor, width: float, definition: Definition) -> MobileNetV2:
    """Random weights with the batch-norm statistics and logits of some pictures, so that these get many answers."""
    torch.manual_seed(0)
    network = MobileNetV2(1000, width, 0, definition)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(inputs)
        logits = network.eval()(inputs)
        network.classifier[1].bias -= logits.mean(0)
    return network


def file_of(network: MobileNetV2, one: Published, folder: Path) -> bytes:
    """The network as its project publishes it."""
    if one.file_name.endswith(".h5"):
        return save(with_weights_of(network, one.image_size, one.width), folder / "w.legacy.h5").read_bytes()
    return saved(network.state_dict())


class Scored:
    """Pictures in ImageNet's class folders, two files of download_weights.py, and what a plain loop counts for them."""

    def __init__(self, root: Path) -> None:
        self.images, self.weights = root / "images", root / "weights"
        generator = np.random.default_rng(0)
        pictures = []
        for _ in range(NUM_IMAGES):
            small = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            pictures.append(cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC))
        files, found = {}, {}
        for one in (KERAS, TIMM):
            inputs = torch.stack([prepared(picture, one.image_size, one.mean, one.std) for picture in pictures])
            network = diverse_network(inputs, one.width, one.definition)
            files[one.name], found[one.name] = file_of(network, one, root), answers(network, inputs)
        classes = SYNSETS.read_text().split()
        targets = [best[0] for best in found[KERAS.name]]
        assert len(set(targets)) > NUM_IMAGES // 2
        for number, (picture, target) in enumerate(zip(pictures, targets, strict=True)):
            folder = self.images / classes[target]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])
        self.finished = ""  # the kept scores, when they have been measured once
        self.expected = {
            name: tuple(
                100 * sum(target in best[:k] for best, target in zip(lists, targets, strict=True)) / NUM_IMAGES
                for k in (1, 5)
            )
            for name, lists in found.items()
        }
        for one in (KERAS, TIMM):
            (root / one.file_name).write_bytes(files[one.name])
            write_published(one, root / one.file_name, self.weights)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return Scored(tmp_path_factory.mktemp("scored"))


class Runner:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, made: Scored, root: Path):
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.images, self.weights, self.results = root / "images", root / "weights", root / "scores.json"
        self.made = made
        shutil.copytree(made.images, self.images)
        shutil.copytree(made.weights, self.weights)

    def run(self, *words: str) -> str:
        folders = ("--images", self.images, "--weights", self.weights, "--results", self.results)
        means = ("--workers", 0, "--device", "cpu", "--batch-size", 5)
        line = [str(word) for word in ("score_published.py", *folders, *means, *words)]
        self.monkeypatch.setattr(sys, "argv", line)
        with utils.user_errors():
            score_published.main()
        return self.capsys.readouterr().out

    def finish(self) -> None:
        """Have both networks scored already."""
        if self.made.finished:
            self.results.write_text(self.made.finished)
        else:
            self.run()
            self.made.finished = self.results.read_text()

    def refusal(self, *words: str) -> str:
        with pytest.raises(SystemExit) as caught:
            self.run(*words)
        line = self.capsys.readouterr().err
        assert (caught.value.code, line.count("\n")) == (2, 1)
        return line

    def refuse_scoring(self) -> None:
        def fail(*_: object) -> None:
            raise AssertionError("scored again")

        self.monkeypatch.setattr(score_published, "score", fail)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, made: Scored, tmp_path: Path) -> Runner:
    return Runner(monkeypatch, capsys, made, tmp_path)


def test_each_network_is_scored_as_it_was_published(runner: Runner, made: Scored) -> None:
    """At its own size, with its own padding, eps, mean and deviation: what a plain loop over the pictures counts."""
    printed = runner.run()
    assert made.expected[KERAS.name] == (100, 100)
    for one in (KERAS, TIMM):
        top1, top5 = made.expected[one.name]
        assert f"{one.name}: top-1 {top1:.3f} %, top-5 {top5:.3f} %, " in printed
        row = next(line for line in printed.splitlines() if line.startswith(f"| {one.name}"))
        cells = [float(cell) for cell in row.split("|")[2:-1]]
        assert cells == [
            one.acc1,
            one.acc5,
            round(top1, 3),
            round(top5, 3),
            round(100 * (top1 - one.acc1)),
            round(100 * (top5 - one.acc5)),
        ]


@pytest.mark.parametrize("name", ["definition", "mean", "image_size"])
def test_figures_of_these_pictures_depend_on(runner: Runner, name: str) -> None:
    """That the test above can fail."""
    changed = KERAS._replace(**{name: getattr(TIMM, name)})
    means = scoring.Means(torch.device("cpu"), torch.float32, "float32", 5, 0)
    path = next(runner.weights.glob("*keras*"))
    assert scoring.score(path, changed, runner.images, means)["acc1"] < 100


def test_other_images_are_said_to_compare_with_nothing(runner: Runner) -> None:
    runner.finish()
    printed = runner.run()
    assert printed.count("24 images of ") == 2
    assert "not the 50,000 of 1,000 of ImageNet's validation set: the figures are not comparable" in printed
    assert score_published.describe_doubt(Path("val"), 50_000, 1_000) == ""


def test_finished_networks_are_kept(runner: Runner) -> None:
    first = runner.run()
    runner.refuse_scoring()
    second = runner.run()
    assert second.count("(scored earlier)") == 2
    assert second.replace(" (scored earlier)", "") == first


def test_what_was_finished_before_an_interruption_is_kept(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, published: object, *rest: object) -> dict[str, float]:
        if published == TIMM:
            raise KeyboardInterrupt
        return scoring.score(path, published, *rest)

    monkeypatch.setattr(score_published, "score", interrupted)
    with pytest.raises(SystemExit) as caught:
        runner.run()
    assert caught.value.code == 130
    assert [name[:25] for name in json.loads(runner.results.read_text())] == ["MobileNetV2_0.35-96-keras"]


@pytest.mark.parametrize("change", ["images", "names", "weights", "precision", "scores"])
def test_what_has_changed_is_scored_again(runner: Runner, change: str) -> None:
    runner.finish()
    picture, path = next(runner.images.glob("*/*.png")), next(runner.weights.glob("*keras*"))
    words = []
    if change == "images":
        shutil.copy(picture, picture.with_name("again.png"))
    elif change == "names":
        picture.rename(picture.with_name("renamed.png"))
    elif change == "weights":
        torch.save(torch.load(path, weights_only=True) | {"note": "another file"}, path)
    elif change == "precision":
        words = ["--precision", "bfloat16"]
    else:
        rows = json.loads(runner.results.read_text())
        runner.results.write_text(json.dumps({name: row | {"scores": {}} for name, row in rows.items()}))
    runner.refuse_scoring()
    with pytest.raises(AssertionError, match="scored again"):
        runner.run(*words)


def test_other_files_are_left_out(runner: Runner) -> None:
    torch.save({"state_dict": {}}, runner.weights / "own.pth.tar")
    (runner.weights / "damaged.pth.tar").write_bytes(b"?")
    runner.finish()
    printed = runner.run()
    assert "(2 of 2, " in printed and "own.pth.tar" not in printed
    assert re.search(r"(?m)^Left out: \S+/damaged\.pth\.tar: damaged", printed)


def test_a_folder_without_published_weights_is_one_line(runner: Runner) -> None:
    shutil.rmtree(runner.weights)
    assert "no published weights in it; `python3 scripts/download_weights.py --list`" in runner.refusal()


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"scores": 3}}'])
def test_a_file_of_other_results_is_named_and_stays(runner: Runner, content: str) -> None:
    runner.results.write_text(content)
    assert runner.refusal().startswith(f"{runner.results}: not the scores of score_published.py; remove it")
    assert runner.results.read_text() == content


def test_results_that_cannot_be_written_are_found_before_anything_is_scored(runner: Runner) -> None:
    runner.refuse_scoring()
    assert "/dev/null" in runner.refusal("--results", "/dev/null/scores.json")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--device", "cuda:9"), "--device cuda:9: torch sees "),
        (("--device", "gpu"), "--device gpu: expected cpu, cuda or cuda:N"),
        (("--batch-size", "0"), "0: expected an int >= 1"),
        (("--workers", "-1"), "-1: expected an int >= 0"),
        (("--precision", "int8"), "invalid choice: 'int8'"),
        (("--precision", "tf32"), "needs a GPU"),
        (("--images", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_bad_options_are_one_line(runner: Runner, words: tuple[str, str], reason: str) -> None:
    assert reason in runner.refusal(*words)
