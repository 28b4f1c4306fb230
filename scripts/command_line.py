# SPDX-License-Identifier: Apache-2.0
"""What the command lines of the scripts in this folder share."""

from __future__ import annotations  # so that a Python that is too old gets as far as saying so

import argparse
import ast
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.environment import check_environment

__all__ = ["REPOSITORY", "OneLineParser", "check_environment", "print_config_lines"]

REPOSITORY = Path(__file__).resolve().parent.parent


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like every other error of this program."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def print_config_lines(purpose: str, values: dict[str, Any]) -> None:
    """Print what to set in config.py, in the order of its lines; without their numbers if it cannot be read."""
    path = REPOSITORY / "config.py"
    try:
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, SyntaxError):  # it is the user's to edit
        nodes = iter(())
    stored = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    lines = {node.id: node.lineno for node in stored}
    print(f"\nconfig.py, {purpose}:")
    for name in sorted(values, key=lambda name: lines.get(name, 0)):
        place = f"line {lines[name]}: " if name in lines else ""
        print(f"  {place}{name} = {json.dumps(values[name], ensure_ascii=False)}")
