# SPDX-License-Identifier: Apache-2.0
"""Small copies of the program in which detection and segmentation are run as users run them."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import ROOT, ready_interpreter
from torch import nn

import test
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


UNNAMED = "The weights have no class names: their classes are taken to be"


def run_without_class_names(root: Path, task: str, results: Path) -> tuple[str, str]:
    """What test.py and inference.py of a trained project print with its weights alone in a file; then it is as before.

    results: where its weights are. Fails if they say of the file with the names what they say of one without.
    """
    weights = torch.load(root / results / "best.pth.tar", weights_only=True)
    torch.save(weights["state_dict"], root / results / "bare.pth")
    edit_config(root / task / "config.py", {"model_weights_path": f"{results}/bare.pth", "test_scenes": 2})
    printed = run(root, f"{task}/test.py", mode="test"), run(root, f"{task}/inference.py")
    values = {"model_weights_path": f"{results}/best.pth.tar", "test_scenes": SMALL["test_scenes"]}
    edit_config(root / task / "config.py", values)
    assert UNNAMED not in run(root, f"{task}/test.py", mode="test") + run(root, f"{task}/inference.py")
    return printed


def interrupt_and_resume(root: Path, task: str, samples: Path) -> str:
    """What training prints that goes on where SIGTERM stopped the one before, after a step of its second epoch."""
    command = [sys.executable, "-W", "error", f"{task}/train.py"]  # by a Python of its own, as users start it
    unbuffered = environment("train") | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=root, env=unbuffered, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("Epoch: [2][1/3]"))
        process.send_signal(signal.SIGTERM)
        assert f"`{samples}/interrupted.pth.tar` written" in process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    return run(root, f"{task}/train.py")


def count_compiled(root: Path, task: str, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many graphs test.py has compiled of a trained project, then inference.py too: by a compiler that gives back
    what it gets."""
    inference = importlib.import_module(f"{task}.inference")
    tested = getattr(importlib.import_module(f"{task}.test"), task.upper())
    graphs: list[torch.fx.GraphModule] = []

    def compile_network(network: nn.Module, device: torch.device) -> None:
        network.compile(backend=lambda graph, inputs: graphs.append(graph) or graph)

    monkeypatch.chdir(root)
    monkeypatch.setenv("MODE", "test")
    values = {"compile_model": True, "test_scenes": 2, "num_workers": 0, "precision": "float32"}
    config = load_config(root / "compiled.py", task, settings | values)
    monkeypatch.setattr(test, "compile_network", compile_network)
    test.test_task(config, torch.device("cpu"), tested)
    counts = [len(graphs)]
    monkeypatch.setattr(inference, "compile_network", compile_network)
    monkeypatch.setattr(inference, "setup_runtime", lambda *_: torch.device("cpu"))  # which would last
    inference.main(config, [])
    return [*counts, len(graphs)]
