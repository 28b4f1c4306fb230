# SPDX-License-Identifier: Apache-2.0
"""What the command lines of the scripts in this folder share."""

import argparse
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).resolve().parent.parent


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like every other error of this program."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")
