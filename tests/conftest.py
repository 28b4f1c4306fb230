# SPDX-License-Identifier: Apache-2.0
"""A copy of the program in a temporary folder, with a small dataset, used as a user would: edit config.py, run."""

import atexit
import functools
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from shared.small_training import copy_program, edit_config, write_images

ROOT = Path(__file__).resolve().parent.parent


class Project:
    """The program and a dataset of 3 x 16 training and 3 x 5 validation images in a folder of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        copy_program(root)
        write_images(root / "data/Colours/train", 16)
        write_images(root / "data/Colours/valid", 5, seed=1)
        self.set(dataset_name="Colours", model_num_classes=3, model_width_mult=0.35, device="cpu", num_workers=0)
        self.set(epochs=2, batch_size=8, lr_warmup_epochs=0.5, train_print_frequency=2, valid_print_frequency=1)

    def copy_to(self, root: Path) -> "Project":
        shutil.copytree(self.root, root)
        copy = object.__new__(Project)
        copy.root = root
        return copy

    def set(self, **values: object) -> None:
        edit_config(self.root / "config.py", values)

    def run(self, script: str, *arguments: str, mode: str = "train") -> subprocess.CompletedProcess:
        return ready_interpreter().run([script, *arguments], self.root, self.environment(mode))

    def run_afresh(self, script: str, *arguments: str, mode: str = "train") -> subprocess.CompletedProcess:
        """The same by a new Python, for what depends on how the packages are imported."""
        return subprocess.run(
            [sys.executable, "-W", "error", script, *arguments],
            cwd=self.root,
            env=self.environment(mode),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def environment(self, mode: str) -> dict[str, str]:
        environment = os.environ | {"MODE": mode, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
        environment.pop("EXP_NAME", None)
        return environment

    def run_well(self, script: str, *arguments: str, mode: str = "train") -> str:
        """Run a script that must succeed; returns what it printed."""
        done = self.run(script, *arguments, mode=mode)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refusal(self, script: str, *arguments: str, mode: str = "train") -> str:
        """Run a script that must refuse: status 2, one line on stderr, which it returns, and nothing written."""
        before = self.snapshot()
        done = self.run(script, *arguments, mode=mode)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert self.snapshot() == before
        return done.stderr.strip()

    def snapshot(self) -> dict[str, int]:
        """Every file and folder of the project with its time of change, but for Python's caches."""
        return {
            str(path): path.stat().st_mtime_ns if path.is_file() else 0
            for path in self.root.rglob("*")
            if "__pycache__" not in path.parts
        }


class ReadyInterpreter:
    """ready_interpreter.py, which runs a script as `python3 -W error SCRIPT` does, two seconds sooner."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
        command = [sys.executable, "-W", "error", ROOT / "tests/ready_interpreter.py"]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self.close)

    def run(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
        with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
            request = {"arguments": arguments, "folder": str(folder), "environment": environment}
            request |= {"output": output.name, "errors": errors.name}
            print(json.dumps(request), file=self.process.stdin, flush=True)
            status = int(self.process.stdout.readline())
            return subprocess.CompletedProcess(arguments, status, output.read(), errors.read())

    def close(self) -> None:
        self.process.communicate()


@functools.cache
def ready_interpreter() -> ReadyInterpreter:
    """The one of this process."""
    return ReadyInterpreter()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A temporary folder whose name is short enough for the sockets that loader workers make in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()


def config_with(**values: object) -> ModuleType:
    """config.py as shipped, for training, but for some values."""
    config = ModuleType("config")
    vars(config).update(runpy.run_path(str(ROOT / "config.py")) | values)
    return config


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def trained_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after 6 epochs of 9 batches, which tell the colours apart: read it, do not change it."""
    project = Project(tmp_path_factory.mktemp("trained"))
    shutil.rmtree(project.root / "data/Colours/train")
    write_images(project.root / "data/Colours/train", 48)
    project.set(epochs=6, keep_checkpoints=6, num_workers=2, batch_size=16, model_lr=0.02, model_ema_decay=0.8)
    project.set(loss_label_smoothing=0.0, model_dropout=0.0, random_crop_scale=None)
    project.training_output = project.run_well("train.py")
    return project


@pytest.fixture
def trained_copy(trained_project: Project, tmp_path: Path) -> Project:
    """A copy of a trained project that a test may change."""
    return trained_project.copy_to(tmp_path / "project")
