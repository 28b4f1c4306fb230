# SPDX-License-Identifier: Apache-2.0
"""examples/cpp/classify.cpp, built by the command in examples/README.md: the answers of inference.py."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from exported_network import assert_same_answers, create_exports, read_answers
from PIL import Image

from core.runtimes import has_module

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not has_module("executorch"):
        pytest.skip("the package executorch is not installed")
    folder = tmp_path_factory.mktemp("cpp") / "cpp"
    shutil.copytree(ROOT / "examples/cpp", folder)
    text = (ROOT / "examples/README.md").read_text()
    command = re.search(r"^```bash\n(cd examples/cpp\n.*?g\+\+.*?)```$", text, re.MULTILINE | re.DOTALL)[1]
    command = command.replace("cd examples/cpp\n", "").replace("python3", sys.executable)
    done = subprocess.run(
        ["bash", "-ec", command.replace("g++ ", "g++ -Wall -Wextra ", 1)], cwd=folder, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "classify"


def run(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(words, capture_output=True, text=True)


def test_answers_as_inference_does(program: Path, tmp_path: Path) -> None:
    exports = create_exports()
    values = {"image_size": 97, "apply_orientation": False}
    model = exports.export("Cpp", "executorch", **values)
    expected = exports.answers_of_inference(**values)
    for picture in exports.pictures:
        with Image.open(picture) as stored:
            stored.convert("RGB").save(tmp_path / "picture.ppm")
        done = run(program, model, tmp_path / "picture.ppm")
        assert (done.returncode, done.stderr) == (0, "")
        assert_same_answers(read_answers(done.stdout), expected[picture.name])
    cut = tmp_path / "cut.ppm"
    cut.write_bytes((tmp_path / "picture.ppm").read_bytes()[:-1])
    damaged = tmp_path / "damaged.pte"
    damaged.write_bytes(model.read_bytes()[:5000])
    shutil.copy(model.with_suffix(".json"), damaged.with_suffix(".json"))
    for words, part in {
        (model,): "usage: ",
        (model, "gone.ppm"): "gone.ppm: no such file",
        (tmp_path / "gone.pte", cut): "gone.json: no such file",
        (model, exports.pictures[0]): "not a binary PPM",
        (model, cut): "cut.ppm: is cut short",
        (damaged, tmp_path / "picture.ppm"): "damaged.pte: ExecuTorch cannot run it",
    }.items():
        done = run(program, *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert part in done.stderr
