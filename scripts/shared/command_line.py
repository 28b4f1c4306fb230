# SPDX-License-Identifier: Apache-2.0
"""What the command lines share. Its import is the first of every command: it makes the program importable."""

from __future__ import annotations  # so that a Python that is too old gets as far as saying so

import argparse
import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # scripts/ is there already, as the folder of the command

from core.environment import check_environment

__all__ = [
    "REPOSITORY",
    "OneLineParser",
    "at_least",
    "check_environment",
    "config_assignments",
    "print_config_lines",
    "printable",
]

REPOSITORY = Path(__file__).resolve().parents[2]


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like every other error of this program."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def at_least(least: int) -> Callable[[str], int]:
    """A type for argparse: whole numbers from `least` on."""

    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: expected an int >= {least}")
        return int(text)

    return whole_number


def printable(text: str) -> str:
    """Control characters, which a file name may hold, as escapes: they would act on the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def config_assignments() -> dict[str, ast.Assign]:
    """Where config.py sets each name; nothing if it cannot be read, for it is the user's to edit."""
    try:
        nodes = ast.walk(ast.parse((REPOSITORY / "config.py").read_text(encoding="utf-8")))
    except (OSError, ValueError, SyntaxError):
        return {}
    assignments = [node for node in nodes if isinstance(node, ast.Assign)]
    return {target.id: node for node in assignments for target in node.targets if isinstance(target, ast.Name)}


def print_config_lines(purpose: str, values: dict[str, Any]) -> None:
    """Print what to set in config.py, in the order of its lines; without their numbers if it cannot be read."""
    lines = {name: node.lineno for name, node in config_assignments().items()}
    print(f"\nconfig.py, {purpose}:")
    for name in sorted(values, key=lambda name: lines.get(name, 0)):
        place = f"line {lines[name]}: " if name in lines else ""
        value = values[name] if isinstance(values[name], bool) else json.dumps(values[name], ensure_ascii=False)
        print(f"  {place}{name} = {value}")
