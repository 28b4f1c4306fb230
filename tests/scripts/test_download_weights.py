# SPDX-License-Identifier: Apache-2.0
"""scripts/download_weights.py with a server on this machine in place of the published address."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from command_runs import ENVIRONMENT, run_command
from conftest import ROOT, Project
from published_files import V1, V2, Runner, saved, serving

from downloading import fetching, records
from model import MobileNetV2


@pytest.fixture(scope="module")
def content() -> bytes:
    """A file as torchvision publishes them, with random weights."""
    torch.manual_seed(0)
    return saved(torchvision.models.mobilenet_v2().state_dict())


@pytest.fixture(scope="module")
def server(content: bytes) -> Iterator[str]:
    with serving(content) as address:
        yield address


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, content: bytes) -> Runner:
    return Runner(monkeypatch, capsys, tmp_path, content)


def test_good_file_becomes_one_of_ours(runner: Runner, server: str, content: bytes, tmp_path: Path) -> None:
    runner.publish(f"{server}/good")
    printed = runner.run()
    assert "top-1 71.878 %, top-5 90.286 %" in printed
    stored = torch.load(runner.target, weights_only=True)
    (tmp_path / "published.pth").write_bytes(content)
    theirs = torch.load(tmp_path / "published.pth", weights_only=True)
    assert stored["state_dict"].keys() == theirs.keys() == MobileNetV2().state_dict().keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in stored["state_dict"].items())
    assert (stored["acc1"], stored["acc5"]) == (71.878, 90.286)
    assert stored["model_mean_parameters"] == [0.485, 0.456, 0.406]
    assert stored["model_std_parameters"] == [0.229, 0.224, 0.225]
    assert (stored["image_size"], stored["model_width_mult"], stored["model_arch_name"]) == (224, 1.0, "mobilenet_v2")
    assert (stored["source"], stored["source_sha256"]) == (runner.url, runner.hash)
    assert stored["class_labels"][:2] == ["tench", "goldfish"]
    assert os.listdir(runner.folder) == [runner.target.name]
    assert not (tmp_path / "torch_home").exists() and not os.listdir(tmp_path / "temporary")


def test_version_2_says_that_it_was_measured_otherwise(runner: Runner, server: str) -> None:
    runner.publish(f"{server}/good", V2)
    printed = runner.run("v2")
    assert "top-1 72.154 %, top-5 90.822 %" in printed
    assert "measured with short sides of 232 pixels, test.py has 256" in printed
    stored = torch.load(runner.target, weights_only=True)
    assert (stored["acc1"], stored["acc5"]) == (72.154, 90.822)


def test_synsets_are_the_classes_of_the_published_weights() -> None:
    """In timm's list, and under the names of torchvision's categories in the label map of this repository."""
    import timm.data

    synsets = records.SYNSETS.read_text().split()
    assert synsets == sorted(set(synsets)) == timm.data.ImageNetInfo().label_names()
    labels = json.loads((ROOT / "data/ImageNet_1K_labels_map.txt").read_text())
    pairs = enumerate(V1.meta["categories"])
    others = [name for index, name in pairs if name not in labels[str(index)].split(", ")]
    assert others == ["crane bird", "maillot tank suit"]  # made unique there; "crane" and "maillot" here


def test_second_run_does_nothing(runner: Runner, server: str) -> None:
    runner.publish(f"{server}/good")
    first = runner.run()
    runner.publish("http://127.0.0.1:1")
    before = runner.target.stat()
    second = runner.run("v1")
    after = runner.target.stat()  # not compared as a whole: reading may change the time of the last access
    assert second.startswith(f"{runner.target}: there already, nothing to do.\n")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert second.partition("config.py, ")[2] == first.partition("config.py, ")[2]


@pytest.mark.parametrize("change", ["flip", "cut", "empty", "other"])
def test_damaged_target_is_named_and_stays(runner: Runner, server: str, change: str) -> None:
    runner.publish(f"{server}/good")
    runner.run()
    content = bytearray(runner.target.read_bytes())
    if change == "flip":
        content[len(content) // 2] ^= 1  # a bit of a weight
    runner.target.write_bytes({"flip": content, "cut": content[:-9], "empty": b""}.get(change, content))
    if change == "other":
        torch.save({"state_dict": {}}, runner.target)
    assert runner.refusal() == f"{runner.target}: damaged or another file; remove it and run this again\n"


# The network


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("wrong", "invalid hash value"),
        ("cut", "5000 bytes of it are missing"),
        ("404", "HTTP Error 404: Not Found"),
        ("500", "HTTP Error 500: Internal Server Error"),
        ("garbled", "nonsense"),
    ],
)
def test_bad_answer_leaves_nothing(runner: Runner, server: str, kind: str, reason: str) -> None:
    runner.publish(f"{server}/{kind}")
    line = runner.refusal()
    assert line.startswith(f"{runner.url}: cannot be fetched whole (")
    assert reason in line
    assert f"put it at {runner.by_hand} and run this again" in line


def test_refused_connection_leaves_nothing(runner: Runner) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # taken, but nobody listens
        runner.publish(f"http://127.0.0.1:{free.getsockname()[1]}")
        assert re.search(r"Connection refused.*; fetch it by hand, put it at ", runner.refusal())


def test_server_that_never_answers_is_given_up(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        runner.publish(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "timed out" in runner.refusal()
    assert socket.getdefaulttimeout() is None


# The file by hand


def test_file_by_hand_is_taken(runner: Runner, content: bytes) -> None:
    runner.folder.mkdir(parents=True)
    runner.by_hand.write_bytes(content)
    assert f"{runner.by_hand}: taken" in runner.run()
    assert torch.load(runner.target, weights_only=True)["source_sha256"] == runner.hash


def test_wrong_file_by_hand_is_named(runner: Runner, content: bytes) -> None:
    runner.folder.mkdir(parents=True)
    runner.by_hand.write_bytes(content[:-1])
    start = hashlib.sha256(content[:-1]).hexdigest()[:8]
    assert f"{runner.by_hand}: not the published file, its SHA-256 begins with {start}" in runner.refusal()


@pytest.mark.parametrize("name", ["by_hand", "target"])
def test_folder_in_the_place_of_a_file_is_named(runner: Runner, name: str) -> None:
    path = getattr(runner, name)
    path.mkdir(parents=True)
    line = runner.refusal()
    assert line.startswith(f"{path}: is a folder; ") and "remove" in line


def test_cache_of_torchvision_is_read_and_not_changed(runner: Runner, content: bytes, server: str) -> None:
    runner.cached.parent.mkdir(parents=True)
    runner.cached.write_bytes(content)
    assert f"{runner.cached}: taken from the cache" in runner.run()
    runner.target.unlink()
    runner.cached.write_bytes(b"damaged")
    runner.publish(f"{server}/good")
    assert f"{runner.url}: fetching" in runner.run()
    assert runner.cached.read_bytes() == b"damaged"


# The disk


def test_full_disk_is_one_line(runner: Runner, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.BytesIO):
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    runner.publish(f"{server}/good")
    monkeypatch.setattr(Path, "open", lambda *_: FullDisk())
    assert "No space left on device; make room, or set TMPDIR" in runner.refusal()


def test_folder_that_cannot_be_made_is_one_line(runner: Runner, content: bytes) -> None:
    (runner.root / "results").write_text("a file")
    runner.cached.parent.mkdir(parents=True)
    runner.cached.write_bytes(content)
    assert str(runner.root / "results") in runner.refusal()


def test_file_that_is_no_mobilenet_is_one_line(runner: Runner) -> None:
    runner.cached.parent.mkdir(parents=True)
    torch.save(torchvision.models.squeezenet1_1().state_dict(), runner.cached)
    with open(runner.cached, "rb") as file:
        runner.file_name = f"mobilenet_v2-{hashlib.file_digest(file, 'sha256').hexdigest()[:8]}.pth"
    runner.cached = runner.cached.rename(runner.cached.with_name(runner.file_name))
    runner.publish("http://127.0.0.1:1")
    assert runner.refusal().startswith(str(runner.cached))


def test_bad_version_is_one_line(runner: Runner) -> None:
    assert "invalid choice: 'v3'" in runner.refusal("v3")


# As a user runs it


def test_without_a_network_the_script_says_what_to_do(tmp_path: Path) -> None:
    """The proxy is a port on which nobody listens, so nothing leaves this machine."""
    dead = "http://127.0.0.1:1"
    variables = {"https_proxy": dead, "HTTPS_PROXY": dead, "TORCH_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    script = ROOT / "scripts/download_weights.py"
    done = run_command(script, folder=tmp_path, environment=ENVIRONMENT | variables)
    assert done.returncode == 2
    folder = ROOT / "results/pretrained_models"
    url = "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"
    remedy = f"fetch it by hand, put it at {folder}/mobilenet_v2-b0353104.pth and run this again"
    assert re.fullmatch(rf"{url}: cannot be fetched whole \(.*\); {remedy}\n", done.stderr)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def write_imagenet(folder: Path) -> None:
    """One tiny picture in each of the 1,000 class folders."""
    generator = np.random.default_rng(0)
    for name in records.SYNSETS.read_text().split():
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "0.png"), generator.integers(0, 256, (37, 40, 3), dtype=np.uint8))


def test_printed_lines_make_test_and_inference_work(project: Project, server: str, runner: Runner) -> None:
    runner.publish(f"{server}/good")
    printed = runner.run()
    shutil.copy(ROOT / "data/ImageNet_1K_labels_map.txt", project.root / "data")
    write_imagenet(project.root / "data/ImageNet_1K/ILSVRC2012_img_val")
    lines = (project.root / "config.py").read_text().splitlines()
    for number, name, value in re.findall(r"(?m)^  line (\d+): (\w+) = (.+)$", printed):
        assert lines[int(number) - 1].strip().startswith(f"{name} = ")
        if name != "mode":
            project.set(**{name: json.loads(value)})
    project.set(image_size=32)  # for the time it takes
    tested = project.run_well("test.py", mode="test")
    assert "was trained with image_size = 224; config.py line 26 has 32" in tested
    assert "1000 images of 1000 classes at 32 pixels" in tested
    picture = "data/ImageNet_1K/ILSVRC2012_img_val/n02123045/0.png"
    labels = json.loads((ROOT / "data/ImageNet_1K_labels_map.txt").read_text()).values()
    answers = project.run_well("inference.py", picture).splitlines()[3:]
    assert len(answers) == 5
    assert all(answer[:75].rstrip() in [label[:75] for label in labels] for answer in answers)
    assert "n01440764" not in "".join(labels)
    (project.root / "data/ImageNet_1K/ILSVRC2012_img_val/n02123045").rename(
        project.root / "data/ImageNet_1K/ILSVRC2012_img_val/tabby"
    )
    line = project.refusal("test.py", mode="test")
    assert "missing ['n02123045'], unknown ['tabby']" in line
