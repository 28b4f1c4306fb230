# SPDX-License-Identifier: Apache-2.0
"""examples/python/classify.py: the answers of inference.py, from ONNX Runtime without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from conftest import ROOT
from exported_network import Answers, create_exports, read_answers

SCRIPT = ROOT / "examples/python/classify.py"
# of two resizers, each within a level of the exact value, and then of the network
MOST_POINTS = 0.1


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def assert_same_answers(found: Answers, expected: Answers) -> None:
    assert [label for label, _ in found] == [label for label, _ in expected]
    np.testing.assert_allclose([share for _, share in found], [share for _, share in expected], atol=MOST_POINTS)


def answers(model: Path, picture: Path) -> Answers:
    done = run(model, picture)
    assert (done.returncode, done.stderr) == (0, "")
    return read_answers(done.stdout)


def test_float_file_answers_as_inference_does() -> None:
    exports = create_exports()
    model = exports.export("Float", "onnx", image_size=96, apply_orientation=True)
    expected = exports.answers_of_inference()
    assert len({str(part) for part in expected.values()}) == len(exports.pictures)
    for picture in exports.pictures:
        assert_same_answers(answers(model, picture), expected[picture.name])
