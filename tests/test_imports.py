# SPDX-License-Identifier: Apache-2.0
"""What imports what, read from the syntax trees, imports inside functions among them."""

import ast
import graphlib
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT

# Beside core/, which all of them may import. config is for the three scripts alone, and nothing imports these.
TOP_LEVEL = {
    **{name: set() for name in ("config", "imgproc", "model", "utils")},
    "dataset": {"imgproc"},
    "train": {"config", "dataset", "imgproc", "model", "utils"},
    "test": {"config", "dataset", "imgproc", "model", "utils"},
    "inference": {"config", "imgproc", "model", "utils"},
}
# The folders of machinery below scripts/, and which others each may import.
TASKS = ("detection", "segmentation")
FOLDERS = {
    "shared": set(),
    "preparing": {"shared"},
    "converting": {"shared"},
    "downloading": {"shared", "converting"},
    "checking": {"shared", "preparing"},  # what folders are called like splits
    "measuring": {"shared", "preparing", *TASKS},  # the small copy of prepare_dataset.py; what it times
    "storms": {"shared"},
    "exporting": {"shared"},
    "reporting": {"shared"},
}
COMMANDS = {
    *("prepare_dataset", "check_dataset", "download_weights", "convert_weights", "unfold_batch_norm"),
    *("score_published", "benchmark", "kill_storm", "measure_run", "measure_scale"),
    *("export", "report"),
}
# The packages of other tasks, which share the eight files' code.
# What stands in front on sys.path, and the folders of modules in it.
PLACES = {ROOT: ("core", *TASKS), ROOT / "scripts": tuple(FOLDERS)}


def find_modules() -> dict[str, Path]:
    """Every module of the program and its scripts by the name under which it is imported."""
    modules = {}
    for place, folders in PLACES.items():
        for path in (*place.glob("*.py"), *(path for folder in folders for path in (place / folder).rglob("*.py"))):
            modules[".".join(path.relative_to(place).with_suffix("").parts).removesuffix(".__init__")] = path
    return modules


MODULES = find_modules()


def imports_of(module: str) -> set[str]:
    """The modules of ours that a module imports, wherever the import stands."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports are not followed here; name the folder"
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            names |= inside or {node.module}
    return names & MODULES.keys()


GRAPH = {module: imports_of(module) for module in MODULES}


def folder_of(module: str) -> str:
    """The folder of a module in a folder, "" of one at the top of scripts/ or of the program."""
    return module.rpartition(".")[0].partition(".")[0]


def test_every_file_is_looked_at() -> None:
    files = {path for folder in ("core", "scripts", *TASKS) for path in (ROOT / folder).rglob("*.py")}
    assert files | set(ROOT.glob("*.py")) == set(MODULES.values())
    assert GRAPH["train"] >= {"dataset", "core.network_weights"}
    assert "core.image_index" in GRAPH["prepare_dataset"]  # inside a function, too


def test_no_module_imports_itself_by_way_of_others() -> None:
    list(graphlib.TopologicalSorter(GRAPH).static_order())  # CycleError names the circle


def test_the_top_level_is_the_eight_files() -> None:
    assert {module for module, path in MODULES.items() if path.parent == ROOT} == TOP_LEVEL.keys()


@pytest.mark.parametrize("module", TOP_LEVEL)
def test_top_level_imports_point_one_way(module: str) -> None:
    imported = {name for name in GRAPH[module] if folder_of(name) != "core"}
    assert imported <= TOP_LEVEL[module]


@pytest.mark.parametrize("module", sorted(module for module in MODULES if module.partition(".")[0] == "core"))
def test_core_imports_none_of_the_scripts_and_their_files(module: str) -> None:
    """But for model.py, where a network is meant."""
    assert {name for name in GRAPH[module] if name.partition(".")[0] != "core"} <= {"model"}


@pytest.mark.parametrize("task", TASKS)
def test_tasks_import_what_all_share_and_not_each_other(task: str) -> None:
    imported = {name for module in MODULES if module.partition(".")[0] == task for name in GRAPH[module]}
    others = {name for name in imported if name.partition(".")[0] not in (task, "core", "exporting")}
    assert others <= {"dataset", "imgproc", "inference", "model", "test", "train", "utils"}  # whose loops run them


@pytest.mark.parametrize("task", TASKS)
def test_only_the_export_of_a_task_needs_the_machinery_of_scripts(task: str) -> None:
    modules = {module for module in MODULES if module.partition(".")[0] == task}
    assert {module for module in modules if {folder_of(name) for name in GRAPH[module]} & FOLDERS.keys()} <= {
        f"{task}.export"
    }


def test_no_other_file_imports_a_task() -> None:
    """But for the one that measures them."""
    importing = {
        module for module, imported in GRAPH.items() if {name.partition(".")[0] for name in imported} & {*TASKS}
    }
    assert {module.partition(".")[0] for module in importing - {"measuring.task_steps"}} <= {*TASKS}


def test_the_top_of_scripts_has_the_commands_alone() -> None:
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} == COMMANDS
    assert {path.name for path in (ROOT / "scripts").iterdir() if path.is_dir()} - {"__pycache__"} == FOLDERS.keys()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_are_imported_by_nothing(command: str) -> None:
    assert [module for module, imported in GRAPH.items() if command in imported] == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_look_at_the_environment_before_they_import_more(command: str) -> None:
    _, first, check, second, *_ = ast.parse(MODULES[command].read_text(encoding="utf-8")).body
    assert ast.unparse(first) == "from shared.command_line import check_environment"
    assert ast.unparse(check) == "if __name__ == '__main__':\n    check_environment()"
    assert isinstance(second, (ast.Import, ast.ImportFrom))


@pytest.mark.parametrize("folder", FOLDERS)
def test_machinery_imports_only_what_it_must(folder: str) -> None:
    imported = {name for module in MODULES if folder_of(module) == folder for name in GRAPH[module]}
    assert {folder_of(name) for name in imported} - {"", "core", folder} <= FOLDERS[folder]
    assert "config" not in imported  # its values come as arguments, or from an edited copy


def test_folders_of_scripts_hide_no_package() -> None:
    """scripts/ is in front of the packages on the path of a command."""
    others = {*sys.stdlib_module_names, *metadata.packages_distributions()}
    assert not others & {*FOLDERS, *COMMANDS}
