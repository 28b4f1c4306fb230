# SPDX-License-Identifier: Apache-2.0
"""What keeps the program readable in one evening: short files, short functions, and each name from its own file."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

FOLDERS = ("core", "detection", "segmentation", "scripts", "examples/python")
FILES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])
LONGEST_FILE, LONGEST_FUNCTION = 400, 40


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    first_lines = [min([f.lineno, *(decorator.lineno for decorator in f.decorator_list)]) for f in functions]
    lengths = {f.name: f.end_lineno - first + 1 for f, first in zip(functions, first_lines, strict=True)}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def defined_in(path: Path) -> set[str]:
    """The names that the top level of a file defines, not those that it imports."""
    names = set()
    for node in tree_of(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        else:
            stored = (n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
            names |= {n.id for n in stored}
    return names


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_name_is_imported_from_the_file_that_defines_it(path: Path) -> None:
    ours = {".".join(file.relative_to(ROOT).with_suffix("").parts).removeprefix("scripts."): file for file in FILES}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module in ours:
            elsewhere = {alias.name for alias in node.names} - defined_in(ours[node.module])
            assert elsewhere <= {"check_environment"}, node.module  # which shared.command_line hands on to the commands
