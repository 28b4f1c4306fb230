# SPDX-License-Identifier: Apache-2.0
"""scripts/export.py as users run it, on ONNX; the other formats have tests of their writers in exporting/."""

import argparse
import json
import os
import re
import shutil
import signal
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from command_runs import STARTER
from conftest import ROOT, Project, config_with, ready_interpreter

import export
from model import MobileNetV2

NAME = "mobilenet_v2-onnx"


class Exporting:
    """A trained project with its scripts."""

    def __init__(self, project: Project) -> None:
        self.project, self.root = project, project.root
        shutil.copytree(ROOT / "scripts", self.root / "scripts", dirs_exist_ok=True)
        self.folder = self.root / "results/MobileNetV2-Colours/export"

    def run(self, *arguments: str, mode: str = "train") -> CompletedProcess:
        environment = self.project.environment(mode)
        environment.pop("PYTHONWARNINGS")  # of the exporters
        words = [str(STARTER), str(self.root / "scripts/export.py"), *arguments]
        return ready_interpreter().run(words, self.root, environment)

    def run_well(self, *arguments: str, mode: str = "train") -> str:
        done = self.run(*arguments, mode=mode)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def refusal(self, *arguments: str, mode: str = "train") -> str:
        """The one line of an export that must be refused and must leave nothing."""
        before = self.files()
        done = self.run(*arguments, mode=mode)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert self.files() == before
        return done.stderr.strip()

    def files(self) -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in self.folder.rglob("*")} if self.folder.exists() else {}


@pytest.fixture(scope="session")
def exported(trained_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Exporting:
    """With a float and an int8 ONNX file, to read and not to change."""
    exporting = Exporting(trained_project.copy_to(tmp_path_factory.mktemp("exported") / "project"))
    exporting.best = re.findall(r"Best ([\d.]+) ", trained_project.training_output)[-1]
    exporting.float_output = exporting.run_well("onnx")
    exporting.int8_output = exporting.run_well(
        "onnx", "--int8", "--images", "40", "--most-lost", "50", "--input", "uint8-nhwc", "--softmax"
    )
    return exporting


@pytest.fixture
def exporting(trained_copy: Project) -> Exporting:
    return Exporting(trained_copy)


def test_float_file_has_what_was_printed(exported: Exporting) -> None:
    first, path_line, scores, difference = exported.float_output.splitlines()
    assert first.startswith("Load `mobilenet_v2` model weights `")
    assert path_line.startswith(f"results/MobileNetV2-Colours/export/{NAME}.onnx: ")
    assert f"Acc@1 {exported.best} (torch {exported.best})" in scores  # as train.py has validated
    assert "equal answers 100.00 % (15 images)" in scores
    assert float(difference.rpartition(" ")[2]) < 1e-4


def test_description_says_what_the_file_takes(exported: Exporting) -> None:
    described = json.loads((exported.folder / f"{NAME}.json").read_text())
    assert described["classes"] == described["labels"] == ["blue", "green", "red"]
    taken = described["input"]
    assert (taken["layout"], taken["type"], taken["image_size"]) == ("NCHW", "float32", 32)
    assert taken["mean"] == [0.485, 0.456, 0.406]
    assert taken["resize"] == {"short_side": 37, "method": "bilinear, antialiased"}  # 32 / 0.875 = 36.6
    assert described["output"]["name"] == "logits"
    assert described["verified"]["images"] == 15
    assert described["weights"]["file"] == "best.pth.tar"
    other = json.loads((exported.folder / f"{NAME}-int8.json").read_text())
    assert (other["input"]["layout"], other["input"]["type"]) == ("NHWC", "uint8")
    assert other["output"]["name"] == "probabilities"
    assert other["calibration"] == {"folder": "train", "images": 40, "seed": 0, "scored_too": 0}
    assert (other["verified"]["int8_convolutions"], other["verified"]["int8_linear_layers"]) == (52, 1)


def test_files_run_without_this_program(exported: Exporting) -> None:
    """ONNX Runtime alone, on the levels of a picture and on the normalised ones, and torch."""
    import onnxruntime

    levels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    images = ((levels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    checkpoint = torch.load(exported.root / "results/MobileNetV2-Colours/best.pth.tar", weights_only=True)
    network = MobileNetV2(3, 0.35)
    network.load_state_dict(checkpoint["state_dict"])
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images).clone())
    (logits,) = onnxruntime.InferenceSession(exported.folder / f"{NAME}.onnx").run(None, {"images": images})
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    (shares,) = onnxruntime.InferenceSession(exported.folder / f"{NAME}-int8.onnx").run(None, {"images": levels})
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-3)
    np.testing.assert_allclose(shares, expected.softmax(1), atol=0.1)


def test_no_path_of_the_machine_is_in_any_file(exported: Exporting) -> None:
    names = {path.name for path in exported.folder.iterdir()}
    assert names == {f"{NAME}.onnx", f"{NAME}.json", f"{NAME}-int8.onnx", f"{NAME}-int8.json"}
    for path in exported.folder.iterdir():
        content = path.read_bytes()
        for place in (ROOT, exported.root, Path(torch.__file__).parents[1], Path.home()):
            assert os.fsencode(place) not in content, path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("onnx", "--images", "5"), "--calibration, --images and --most-lost are for int8; add --int8"),
        (("onnx", "--most-lost", "5"), "--calibration, --images and --most-lost are for int8; add --int8"),
        (("onnx", "--check", "16"), "15 images, and --check asks for 16; lower it"),
        (("onnx", "--int8", "--images", "500"), "144 images, and --images asks for 500; lower it"),
        (("onnx", "--int8", "--calibration", "nowhere"), "nowhere: no such folder"),
        (("onnx", "--int8", "--calibration", "data"), "its class folders are not those of the training set"),
        (("onnx", "--check", "0"), "--check: 0: at least 1 is needed"),
        (("onnx", "--int8", "--most-lost", "nan"), "--most-lost: nan: points of 100 are needed"),
        (("tensorrt",), "invalid choice: 'tensorrt'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(exporting: Exporting, arguments: tuple[str, ...], words: str) -> None:
    assert words in exporting.refusal(*arguments)


def test_training_images_must_be_named_in_mode_test(exporting: Exporting) -> None:
    assert 'mode = "test" names none; name a folder with --calibration' in exporting.refusal(
        "onnx", "--int8", mode="test"
    )


def test_weights_must_be_those_of_the_network(exporting: Exporting) -> None:
    exporting.project.set(model_width_mult=0.5)
    assert "trained with model_width_mult = 0.35; set config.py line 30 to it" in exporting.refusal("onnx")
    exporting.project.set(model_weights_path="results/MobileNetV2-Colours/export/a.onnx")
    assert "was exported already; set model_weights_path to the weights" in exporting.refusal("onnx")


def test_what_the_format_does_not_offer_is_refused_before_any_work(exporting: Exporting) -> None:
    """Fine-tuning for it would take hours."""
    done = exporting.run("coreml", "--int8", "qat")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("leave out --int8\n")


def test_missing_package_is_one_line(exporting: Exporting) -> None:
    formats = exporting.root / "scripts/exporting/formats.py"
    formats.write_text(formats.read_text().replace('("onnx", "onnxscript", "onnxruntime")', '("onnx", "no_such")'))
    expected = "exporting to onnx needs the package no_such; `python3 -m pip install -r requirements-export.txt`"
    assert expected in exporting.refusal("onnx")


def spoil(exporting: Exporting, code: str) -> None:
    """Let the writer do something else at its end."""
    writer = exporting.root / "scripts/exporting/onnx_writer.py"
    with writer.open("a") as file:
        file.write(
            f"\nwrite_well = write\n\ndef write(request):\n    path = write_well(request)\n{code}\n    return path\n"
        )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "    raise RuntimeError('first line\\nlast line')",
            f"{NAME}: the converter failed: last line; nothing was written",
        ),
        ("    path.write_bytes(path.read_bytes()[:5000])", "ONNX Runtime cannot read it"),
        ("    raise OSError(28, 'No space left on device', str(path))", "No space left on device; make room for it"),
    ],
)
def test_file_that_fails_gets_no_name(exporting: Exporting, code: str, words: str) -> None:
    spoil(exporting, code)
    assert words in exporting.refusal("onnx")


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, "Interrupted; no file was left half written.\n"), (signal.SIGTERM, "")]
)
def test_interrupted_export_leaves_nothing(exporting: Exporting, number: signal.Signals, words: str) -> None:
    restored = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # started in the background
    restored = restored if number == signal.SIGINT else "import signal"
    spoil(exporting, f"    {restored}; signal.raise_signal({int(number)}); import time; time.sleep(60)")
    done = exporting.run("onnx")
    assert (done.returncode, done.stderr) == (128 + number, words)
    assert list(exporting.folder.iterdir()) == []


@pytest.mark.parametrize(("status", "printed"), [(143, "The same command goes on with it.\n"), (2, "")])
def test_a_stopped_fine_tuning_says_how_to_go_on(
    status: int, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(export, "run_in_own_process", lambda words: status)
    options = argparse.Namespace(format="onnx", calibration=None, images=None)
    with pytest.raises(SystemExit) as stopped:
        export.train_for_int8(config_with(), options, torch.nn.Identity(), [])
    assert (stopped.value.code, capsys.readouterr().out) == (status, printed)
