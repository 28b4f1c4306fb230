# SPDX-License-Identifier: Apache-2.0
"""test.py and inference.py on exported files, as users run them."""

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from conftest import Project
from exported_networks import SUFFIXES, WRITERS, describe, description_of, write_graph, write_trained
from onnx import helper
from test_test import LAST_LINE

from exporting.networks import plain_network
from exporting.requests import FLOAT_INPUT, Choices
from model import mobilenet_v2

WEIGHTS = "results/MobileNetV2-Colours/best.pth.tar"
RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "executorch": "ExecuTorch", "litert": "LiteRT"}


@pytest.fixture(scope="module")
def exported(trained_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A trained project with its network for OpenVINO, and with networks of other formats that take the mean colour."""
    project = trained_project.copy_to(tmp_path_factory.mktemp("exported") / "project")
    checkpoint = torch.load(project.root / WEIGHTS, weights_only=True)
    network = mobilenet_v2(3, 0.35)
    network.load_state_dict(checkpoint["state_dict"])
    project.set(inference_image_path="./data/Colours/valid/green/000.png")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    plain = plain_network(network, Choices("openvino", "", FLOAT_INPUT, False, "dynamic"), 32, mean, std)
    write_trained(project.root / "trained.xml", plain)
    names = ["blue", "green", "red"]
    describe(project.root / "trained.xml", description_of("openvino", classes=names, labels=["ocean", "grass", "fire"]))
    for name in WRITERS:
        path = project.root / f"means-{name}{SUFFIXES[name]}"
        WRITERS[name](path)
        describe(path, description_of(name))
    return project


@pytest.fixture
def exported_copy(exported: Project, tmp_path: Path) -> Project:
    return exported.copy_to(tmp_path / "project")


def read_results(project: Project) -> tuple[list[dict[str, str]], dict]:
    folder = project.root / "results/MobileNetV2-Colours"
    with open(folder / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file)), json.loads((folder / "test.json").read_text())


def test_the_same_weights_give_the_same_score(exported_copy: Project) -> None:
    """By test.py as .pth and as a file for OpenVINO."""
    project = exported_copy
    project.set(num_workers=1, batch_size=4)
    *_, expected_line = project.run_well("test.py", mode="test").splitlines()
    expected, before = read_results(project)
    project.set(model_weights_path="./trained.xml")
    first, second, *_, last_line = project.run_well("test.py", mode="test").splitlines()
    rows, report = read_results(project)
    assert first == f"Load `mobilenet_v2` model weights `{(project.root / 'trained.xml').resolve()}` successfully."
    version = openvino.__version__.partition("-")[0]
    assert second == f"15 images of 3 classes at 32 pixels; cpu, float32 in OpenVINO {version}."
    assert last_line == expected_line
    assert re.fullmatch(LAST_LINE, last_line)
    for row, other in zip(rows, expected, strict=True):
        assert [value for name, value in row.items() if not name.startswith("probability")] == [
            value for name, value in other.items() if not name.startswith("probability")
        ]
        for rank in (1, 2, 3):
            assert float(row[f"probability_{rank}"]) == pytest.approx(float(other[f"probability_{rank}"]), abs=1e-4)
    assert {name for name in before if before[name] != report[name]} <= {
        *("loss", "weights", "weights_sha256", "predictions_sha256", "runtime", "versions")
    }
    assert report["weights_sha256"] == hashlib.sha256((project.root / "trained.xml").read_bytes()).hexdigest()
    assert (report["precision"], report["runtime"], before["runtime"]) == ("float32", "OpenVINO", "torch")
    assert report["versions"] == before["versions"] | {"openvino": version}


@pytest.mark.parametrize("file_format", WRITERS)
def test_every_runtime_tells_colours_apart(exported_copy: Project, file_format: str) -> None:
    """The network takes the mean of each channel, so it is right where the class is called like the channel.

    The classes of the file are in another order than the folders, and one folder is missing.
    """
    project = exported_copy
    shutil.rmtree(project.root / "data/Colours/valid/green")
    project.set(model_weights_path=f"means-{file_format}{SUFFIXES[file_format]}", num_workers=2, batch_size=3)
    lines = project.run_well("test.py", mode="test").splitlines()
    assert lines[1].startswith("10 images of 2 classes at 32 pixels; cpu, float32 in " + RUNTIMES[file_format] + " ")
    assert lines[-1] == " * Acc@1 100.000 Err@1 0.000 Macro 100.000 (10 images)"
    rows, _ = read_results(project)
    assert [row["class_1"] for row in rows] == ["blue"] * 5 + ["red"] * 5
    answers = project.run_well("inference.py", "data/Colours/valid/red/000.png").splitlines()
    assert answers[1].startswith("Load `mobilenet_v2` model weights `")
    assert answers[2].split()[0] == "red"


def test_labels_are_those_of_the_file_or_of_the_label_file(exported_copy: Project) -> None:
    project = exported_copy
    project.set(model_weights_path="trained.xml")
    picture = "data/Colours/valid/red/000.png"
    labels = {line.split()[0] for line in project.run_well("inference.py", picture).splitlines()[2:]}
    assert labels == {"ocean", "grass", "fire"}
    (project.root / "labels.json").write_text(json.dumps({"blue": "b", "green": "g", "red": "r"}))
    project.set(class_label_file="labels.json")
    assert {line.split()[0] for line in project.run_well("inference.py", picture).splitlines()[2:]} == {"b", "g", "r"}


def test_exported_files_run_on_the_cpu_whatever_the_device(exported_copy: Project) -> None:
    exported_copy.set(model_weights_path="means-onnx.onnx", device="cuda:7")
    printed = exported_copy.run_well("test.py", mode="test")
    assert "32 pixels; cpu, as exported files do, not cuda:7, float32 in ONNX Runtime" in printed
    assert read_results(exported_copy)[1]["device"] == "cpu"


def test_what_is_wrong_is_one_line(exported_copy: Project) -> None:
    project = exported_copy
    path = project.root / "means-onnx.onnx"
    project.set(model_weights_path=path.name, model_width_mult=1.0)
    for script, mode in (("test.py", "test"), ("inference.py", "train")):
        refusal = project.refusal(script, mode=mode)
        assert refusal == "means-onnx.onnx: exported with model_width_mult = 0.35; set config.py line 30 to it"
    project.set(model_width_mult=0.35, precision="bfloat16")
    assert 'line 22: precision = "bfloat16"' in project.refusal("test.py", mode="test")
    project.set(precision="float32")
    path.write_bytes(path.read_bytes()[:-1])
    assert project.refusal("test.py", mode="test").startswith("means-onnx.onnx: damaged or changed since")
    describe(path, description_of("onnx"))  # as whoever means harm would
    assert project.refusal("inference.py").startswith("means-onnx.onnx: ONNX Runtime cannot read it: ")
    path.with_suffix(".json").unlink()
    assert project.refusal("test.py", mode="test").startswith("means-onnx.onnx: means-onnx.json is not beside it")


def test_folders_of_other_classes_are_refused(exported_copy: Project) -> None:
    exported_copy.set(model_weights_path="means-onnx.onnx")
    (exported_copy.root / "data/Colours/valid/red").rename(exported_copy.root / "data/Colours/valid/orange")
    assert "its class folders are not those of the training set" in exported_copy.refusal("test.py", mode="test")


def test_infinite_logits_are_no_score(exported_copy: Project) -> None:
    path = exported_copy.root / "means-onnx.onnx"
    axes = helper.make_tensor("axes", 7, [2], np.int64([2, 3]))
    write_graph(path, helper.make_node("ReduceLogSum", ["images", "axes"], ["logits"], keepdims=0), [axes])
    describe(path, description_of("onnx"))
    exported_copy.set(model_weights_path=path.name)
    assert "set model_weights_path (config.py line 89) to others" in exported_copy.refusal("inference.py")
