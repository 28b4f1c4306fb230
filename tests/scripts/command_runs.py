# SPDX-License-Identifier: Apache-2.0
"""Commands of scripts/ in processes of their own."""

import os
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

from conftest import ROOT, ready_interpreter

STARTER = ROOT / "tests/scripts/start_command.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


def run_command(
    script: Path, *arguments: object, folder: Path, environment: Mapping[str, str] = ENVIRONMENT
) -> CompletedProcess:
    """As `python3 SCRIPT ARGUMENTS` in a folder, in a copy of a Python that has imported the packages already."""
    return ready_interpreter().run([str(word) for word in (STARTER, script, *arguments)], folder, dict(environment))
