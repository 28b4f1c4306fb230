# SPDX-License-Identifier: Apache-2.0
"""Small copies of the program in which detection and segmentation are run as users run them."""

import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType

from conftest import ROOT, ready_interpreter

from shared.small_training import copy_program, edit_config

SMALL = {
    **{"device": "cpu", "image_size": 64, "model_width_mult": 0.35, "train_scenes": 24, "valid_scenes": 6},
    **{"test_scenes": 10, "num_workers": 2, "epochs": 2, "batch_size": 8, "lr_warmup_epochs": 0.5},
    **{"model_ema_decay": 0.5, "train_print_frequency": 1, "valid_print_frequency": 1, "test_print_frequency": 9},
}


def create_task_project(root: Path, task: str, settings: dict[str, object]) -> Path:
    """Copy the program with one task and the digits into a new folder, and edit the task's config.py."""
    copy_program(root)
    shutil.copytree(ROOT / task, root / task, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data").mkdir()
    shutil.copy(ROOT / "data/digits.csv.gz", root / "data")
    edit_config(root / task / "config.py", settings)
    return root


def environment(mode: str) -> dict[str, str]:
    wanted = {"MODE": mode, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}
    return {name: value for name, value in os.environ.items() if name != "EXP_NAME"} | wanted


def run(root: Path, *arguments: str, mode: str = "train", status: int = 0) -> str:
    """Run a script; what it printed, or its errors."""
    done = ready_interpreter().run([f"{root}/{arguments[0]}", *arguments[1:]], root, environment(mode))
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def load_config(path: Path, task: str, settings: dict[str, object]) -> ModuleType:
    """The config.py of a task with other settings, written to `path` and imported from there."""
    shutil.copy(ROOT / task / "config.py", path)
    edit_config(path, settings)
    spec = importlib.util.spec_from_file_location("config", path)
    assert spec is not None
    assert spec.loader is not None
    config = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(config)
    return config
