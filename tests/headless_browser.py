# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium to look at pages with: tests/examples/browser.mjs."""

import fcntl
import json
import os
import select
import shutil
import subprocess
from typing import Any

from conftest import ROOT

DRIVER = ROOT / "tests/examples"
LONGEST_SECONDS = 60


def is_installed() -> bool:
    return shutil.which("node") is not None and (DRIVER / "node_modules").is_dir()


class Browser:
    """One browser with one page."""

    def __init__(self) -> None:
        temporary = DRIVER / "node_modules/.unpacked"
        temporary.mkdir(exist_ok=True)
        with open(temporary / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the first one unpacks the browser
            self.process = subprocess.Popen(
                ["node", DRIVER / "browser.mjs"],
                env=os.environ | {"TMPDIR": str(temporary)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert "Chrome/" in self.read()

    def close(self) -> None:
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def ask(self, method: str, argument: object = None) -> Any:
        """What a method of browser.mjs answers."""
        self.process.stdin.write(json.dumps([method, str(argument)]) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        assert select.select([self.process.stdout], [], [], LONGEST_SECONDS)[0], "the browser does not answer"
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer.get("value")
