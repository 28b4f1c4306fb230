# SPDX-License-Identifier: Apache-2.0
"""download_weights.py with the files of Keras, which have no published hash, and of timm."""

import hashlib
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from keras_networks import keras_network, save
from published_files import Runner, saved, serving

from downloading import published
from model import MobileNetV2

KERAS_NAME = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Random weights of width 0.35, alone in a file of Keras, as the published ones are."""
    return save(keras_network(classes=1000), tmp_path_factory.mktemp("keras") / "w.legacy.h5").read_bytes()


@pytest.fixture(scope="module")
def server(content: bytes) -> Iterator[str]:
    with serving(content) as address:
        yield address


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, content: bytes) -> Runner:
    return Runner(monkeypatch, capsys, tmp_path, content)


def test_file_of_keras_is_recorded_with_its_hash(runner: Runner, server: str) -> None:
    runner.publish_others(f"{server}/good")
    printed = runner.run("keras", "0.35", "96")
    target = runner.folder / f"MobileNetV2_0.35-96-keras-{runner.hash[:8]}.pth.tar"
    assert f"{KERAS_NAME}: its SHA-256 is {runner.hash} (none is published).\n{target}: written.\n" in printed
    assert "Published accuracy: top-1 45.5 %, top-5 70.4 %." in printed
    assert "measured with the central 87.5% of each side made square" in printed
    assert 'model_padding = "same"' in printed and "model_batch_norm_eps = 0.001" in printed
    stored = torch.load(target, weights_only=True)
    assert (stored["model_padding"], stored["model_batch_norm_eps"]) == ("same", 1e-3)
    assert stored["model_mean_parameters"] == stored["model_std_parameters"] == [0.5, 0.5, 0.5]
    assert (stored["image_size"], stored["model_width_mult"]) == (96, 0.35)
    assert (stored["source"], stored["source_sha256"]) == (f"{server}/good/{KERAS_NAME}", runner.hash)
    assert os.listdir(runner.folder) == [target.name] and not os.listdir(runner.root / "temporary")


def test_centre_crop_of_keras_is_told_where_it_was_measured(runner: Runner, server: str) -> None:
    runner.publish_others(f"{server}/good")
    assert "Keras measured top-1 60.086 % and top-5 82.432 % with a centre crop." in runner.run("keras", "0.350", "224")


def test_cut_answer_without_a_hash_leaves_nothing(runner: Runner, server: str) -> None:
    runner.publish_others(f"{server}/cut")
    line = runner.refusal("keras", "0.35", "96")
    assert "(5000 bytes of it are missing); fetch it by hand, put it at" in line
    assert line.endswith(f"{runner.folder / KERAS_NAME} and run this again\n")


@pytest.mark.parametrize("place", ["results/pretrained_models", "keras_home/models"])
def test_file_of_keras_on_the_disk_is_taken_and_compared_later(runner: Runner, content: bytes, place: str) -> None:
    source = runner.root / place / KERAS_NAME
    source.parent.mkdir(parents=True)
    source.write_bytes(content)
    assert f"{source}: taken" in runner.run("keras", "0.35", "96")
    assert "there already, nothing to do" in runner.run("keras", "0.35", "96")
    source.write_bytes(content[:-1])
    start = hashlib.sha256(content[:-1]).hexdigest()[:8]
    line = runner.refusal("keras", "0.35", "96")
    assert line.startswith(f"{source}: its SHA-256 begins with {start}, and MobileNetV2_0.35-96-keras-")
    source.unlink()
    assert "there already, nothing to do" in runner.run("keras", "0.35", "96")


def test_two_files_of_one_name_are_named(runner: Runner, server: str) -> None:
    runner.publish_others(f"{server}/good")
    runner.run("keras", "0.35", "96")
    (runner.folder / "MobileNetV2_0.35-96-keras-00000000.pth.tar").write_bytes(b"")
    line = runner.refusal("keras", "0.35", "96")
    assert "two files of keras 0.35 96; remove one" in line


def test_renamed_file_of_another_size_is_named(runner: Runner, server: str) -> None:
    runner.publish_others(f"{server}/good")
    runner.run("keras", "0.35", "96")
    written = runner.folder / f"MobileNetV2_0.35-96-keras-{runner.hash[:8]}.pth.tar"
    other = written.rename(written.with_name(written.name.replace("-96-", "-128-")))
    assert runner.refusal("keras", "0.35", "128") == f"{other}: damaged or another file; remove it and run this again\n"


def test_file_of_another_width_is_named(runner: Runner, server: str) -> None:
    runner.publish_others(f"{server}/good")
    assert "a network of width 0.35 for 1000 classes, not keras 1.0 96" in runner.refusal("keras", "1", "96")


def test_file_of_timm_is_recorded_and_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    content = saved(MobileNetV2(1000, 0.35).state_dict())
    runner = Runner(monkeypatch, capsys, tmp_path, content)
    monkeypatch.setitem(published.TIMM, 0.35, (f"mobilenetv2_035-{runner.hash[:8]}.pth", 60.0, 80.01))
    with serving(content) as server:
        runner.publish_others(f"{server}/good")
        printed = runner.run("timm", "0.35")
        target = check_file_of_timm(runner, printed)
        target.unlink()
        runner.publish_others(f"{server}/wrong")
        assert "(invalid hash value: " in runner.refusal("timm", "0.35")


def check_file_of_timm(runner: Runner, printed: str) -> Path:
    assert "top-1 60.000 %, top-5 80.010 %" in printed and "bicubic resizing, test.py has bilinear" in printed
    target = runner.folder / f"MobileNetV2_0.35-224-timm-{runner.hash[:8]}.pth.tar"
    stored = torch.load(target, weights_only=True)
    assert (stored["model_padding"], stored["model_batch_norm_eps"]) == ("symmetric", 1e-5)
    assert stored["model_mean_parameters"] == [0.485, 0.456, 0.406]
    return target


@pytest.mark.parametrize(
    "words", ["keras 0.4 96", "keras 1.4 96", "keras 0.35", "keras", "timm 0.75", "timm 1.1", "keras nan 96"]
)
def test_name_of_nothing_is_answered_by_all_there_is(runner: Runner, words: str) -> None:
    line = runner.refusal(*words.split())
    assert f"invalid choice: {words!r}" in line
    named = line.rpartition("(choose from ")[2].rstrip(")\n")
    expanded = {
        " ".join(each) for part in named.split(", ") for each in product(*(word.split("|") for word in part.split()))
    }
    assert expanded == published.published_weights().keys()


def test_list_shows_all_and_fetches_none(runner: Runner) -> None:
    assert runner.run("--list") == f"{published.published_table()}\n"
    assert not runner.folder.exists()
