# SPDX-License-Identifier: Apache-2.0
"""examples/python/classify.py: the answers of inference.py, from ONNX Runtime without torch."""

import ast
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from exported_network import MOST_LEVELS, assert_same_answers, create_exports, expected_square, read_answers

SCRIPT = ROOT / "examples/python/classify.py"


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-W", "error", SCRIPT, *arguments], capture_output=True, text=True)


def test_float_file_answers_as_inference_does() -> None:
    exports = create_exports()
    model = exports.float_file
    expected = exports.answers_of_inference(image_size=96, apply_orientation=True)
    assert len(set(map(str, expected.values()))) == len(exports.pictures)
    for picture in exports.pictures:
        done = run(model, picture)
        assert (done.returncode, done.stderr) == (0, "")
        assert_same_answers(read_answers(done.stdout), expected[picture.name])


def test_file_of_levels_and_probabilities_answers_as_inference_does() -> None:
    exports = create_exports()
    values = {"image_size": 97, "apply_orientation": False}
    model = exports.export("Levels", "onnx", "--input", "uint8-nhwc", "--softmax", **values)
    expected = exports.answers_of_inference(**values)
    classify = runpy.run_path(str(SCRIPT))["classify"]
    for picture in exports.pictures:
        answers = [(label.strip(), 100 * share) for label, share in classify(model, picture)]
        assert_same_answers(answers, expected[picture.name])


@pytest.mark.parametrize("image_size", [32, 97, 224])
@pytest.mark.parametrize("apply_orientation", [False, True])
def test_pixels_are_those_of_the_program(image_size: int, apply_orientation: bool) -> None:
    load_picture = runpy.run_path(str(SCRIPT))["load_picture"]
    taken = {"image_size": image_size, "resize": {"short_side": round(image_size / 0.875)}, "type": "uint8"}
    for picture in create_exports().pictures:
        (levels,) = load_picture(picture, taken | {"apply_orientation": apply_orientation}).astype(int)
        assert np.abs(levels - expected_square(picture, image_size, apply_orientation)).max() <= MOST_LEVELS


def test_errors_are_one_line(tmp_path: Path) -> None:
    exports = create_exports()
    alone = shutil.copy(exports.float_file, tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    shutil.copy(exports.float_file.with_suffix(".json"), broken.with_suffix(".json"))
    for words, part in {
        (): "usage: ",
        (exports.float_file, "gone.png"): "gone.png: ",
        (exports.float_file, SCRIPT): "cannot identify image file",
        (alone, exports.pictures[0]): "mobilenet_v2-onnx.json",
        (broken, exports.pictures[0]): "broken.onnx",
    }.items():
        done = run(*words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert part in done.stderr


def test_needs_no_torch() -> None:
    nodes = list(ast.walk(ast.parse(SCRIPT.read_text())))
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"PIL", "json", "numpy", "onnxruntime", "pathlib", "sys", "typing"}
