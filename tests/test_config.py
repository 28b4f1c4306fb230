# SPDX-License-Identifier: Apache-2.0
"""config.py, the layout, and what README.md says of them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README_LINES = {
    29: "model_arch_name",
    31: "model_mean_parameters",
    32: "model_std_parameters",
    34: "model_num_classes",
    36: "mode",
    50: "pretrained_model_weights_path",
    53: "resume",
    89: "model_weights_path",
}


@pytest.mark.parametrize(("number", "name"), README_LINES.items())
def test_the_eight_names_stand_on_their_lines(number: int, name: str) -> None:
    line = (ROOT / "config.py").read_text().splitlines()[number - 1]
    assert re.match(rf" *{name} = ", line), line


@pytest.mark.parametrize(("number", "name"), README_LINES.items())
def test_readme_names_each_line(number: int, name: str) -> None:
    assert re.search(rf"line {number}\b[^\n]*{name}", (ROOT / "README.md").read_text())


def test_every_line_that_readme_names_holds_the_name_beside_it() -> None:
    config_lines = (ROOT / "config.py").read_text().splitlines()
    named = re.findall(r"line (\d+)[:,]? `(\w+)", (ROOT / "README.md").read_text())
    assert len(named) >= len(README_LINES)
    for number, name in named:
        assert re.match(rf" *{name} = ", config_lines[int(number) - 1]), f"line {number}: {name}"


def test_requirements_are_exact_pins() -> None:
    files = ("requirements.txt", "requirements-convert.txt", "requirements-dev.txt")
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines() if not line.startswith("-r ")]
    assert lines
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "$ make test" in (ROOT / "README.md").read_text()
