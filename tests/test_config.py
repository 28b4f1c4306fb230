# SPDX-License-Identifier: Apache-2.0
"""config.py, the layout, and what README.md says of them."""

import ast
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
ALLOWED_IMPORTS = {
    **{name: set() for name in ("config", "imgproc", "model", "utils")},
    "dataset": {"imgproc"},
    "train": {"config", "dataset", "imgproc", "model", "utils"},
    "test": {"config", "dataset", "imgproc", "model", "utils"},
    "inference": {"config", "imgproc", "model", "utils"},
    **{f"core/{path.stem}": set() for path in (ROOT / "core").glob("*.py")},
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


@pytest.mark.parametrize("name", ALLOWED_IMPORTS)
def test_imports_point_one_way(name: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse((ROOT / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported & set(ALLOWED_IMPORTS) <= ALLOWED_IMPORTS[name]


def test_core_imports_none_of_the_scripts_and_their_files() -> None:
    """But for model.py, where a network is meant."""
    for path in (ROOT / "core").glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not imported & set(ALLOWED_IMPORTS) - {"model"}, path


def test_requirements_are_exact_pins() -> None:
    lines = (ROOT / "requirements.txt").read_text().split() + (ROOT / "requirements-dev.txt").read_text().split()
    assert lines
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "$ make test" in (ROOT / "README.md").read_text()
