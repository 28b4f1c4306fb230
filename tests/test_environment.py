# SPDX-License-Identifier: Apache-2.0
"""What the scripts say where they cannot run: another system, an old Python, no packages."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT

from core import environment


@pytest.mark.parametrize("script", ["train.py", "test.py", "inference.py"])
def test_a_python_without_the_packages_gets_one_line(script: str) -> None:
    """-S leaves out what pip has installed."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-S", script], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(f"{sys.executable} has no ")
    assert "run `" in done.stderr


def test_the_packages_are_those_of_requirements_txt() -> None:
    installed = metadata.packages_distributions()
    wanted = {line.partition("==")[0] for line in (ROOT / "requirements.txt").read_text().split()}
    assert {installed[module][0].lower().replace("_", "-") for module in environment.MODULES} == wanted


def test_the_way_to_the_packages_is_the_environment_that_make_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    install = f"`{sys.executable} -m pip install -r requirements.txt`"
    assert environment.packages_remedy().endswith(f"or {install}")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    assert environment.packages_remedy().startswith("run `source .venv/bin/activate`")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))  # where packages are missing in it
    assert environment.packages_remedy().endswith(f"or {install}")


def test_a_file_name_that_is_no_text_ends_no_program() -> None:
    """As strict as stdout is in a locale like en_US.UTF-8, where print() would raise UnicodeEncodeError."""
    code = r"from core.environment import check_environment; check_environment(); print('\udcfc.png')"
    variables = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\udcfc.png\n", "")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("platform", "win32", "runs in WSL"), ("version_info", (3, 10, 14), "is Python 3.10; 3.11 or newer is needed")],
)
def test_other_systems_and_older_pythons_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, name: str, value: object, words: str
) -> None:
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, name, value)
        environment.check_environment()
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_other_missing_modules_keep_their_traceback(capsys: pytest.CaptureFixture) -> None:
    for error in (ModuleNotFoundError("No module named 'mine'", name="mine"), KeyError("torch")):
        environment.explain_missing_package(type(error), error, None)
        assert repr(error).partition("(")[0] in capsys.readouterr().err
