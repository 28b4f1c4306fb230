# SPDX-License-Identifier: Apache-2.0
"""What all commands have in common."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

COMMANDS = sorted((ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.stem)
def test_a_python_without_the_packages_gets_one_line(command: os.PathLike) -> None:
    """-S leaves out what pip has installed."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-S", command]
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(f"{sys.executable} has no ")
