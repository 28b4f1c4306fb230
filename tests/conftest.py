# SPDX-License-Identifier: Apache-2.0
"""A copy of the program in a temporary folder, with a small dataset, used as a user would: edit config.py, run."""

import atexit
import compileall
import functools
import json
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TextIO

import pytest

from shared.small_training import SmallTraining, copy_program, edit_config, write_images

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-size", action="store_true", help="convert Keras' network of every width and size")


class Project:
    """The program and a dataset of 3 x 16 training and 3 x 5 validation images in a folder of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        copy_program(root)
        copy_compiled(root)
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

    def start(self, script: str, *arguments: str, errors: Path | None = None, **environment: str) -> "Copy":
        """Start a script in a session of its own; its lines come as it prints them."""
        environment = self.environment("train") | {"PYTHONUNBUFFERED": "1"} | environment
        return ready_interpreter().start([script, *arguments], self.root, environment, errors)

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
        environment |= {"PYTHONDONTWRITEBYTECODE": "1"}  # a config.py edited within a second would be the old one
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


class Copy:
    """A script that runs in a copy of the ready interpreter, with the methods of subprocess.Popen."""

    def __init__(self, interpreter: "ReadyInterpreter", pid: int, stdout: TextIO | None) -> None:
        self.interpreter, self.pid, self.stdout = interpreter, pid, stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for that of a signal, or None while it runs."""
        self.returncode = self.interpreter.status(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        """The exit status. Raises: subprocess.TimeoutExpired."""
        self.returncode = self.interpreter.status(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """All that it prints, to its end."""
        with self.stdout:
            printed = self.stdout.read()
        self.wait(timeout)
        return printed, ""

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> "Copy":
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdout:
            self.stdout.close()
        self.wait()


class ReadyInterpreter:
    """ready_interpreter.py, which runs a script as `python3 -W error SCRIPT` does, two seconds sooner."""

    def __init__(self) -> None:
        compile_program()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-W", "error", ROOT / "tests/ready_interpreter.py"]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.received = b""
        self.ended: dict[int, int] = {}
        self.started: list[int] = []
        atexit.register(self.close)

    def run(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
        with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
            with self._copy(arguments, folder, environment, output.name, errors.name, leads_session=False) as copy:
                status = copy.wait()
            return subprocess.CompletedProcess(arguments, status, output.read(), errors.read())

    def start(
        self, arguments: list[str], folder: Path, environment: dict[str, str], errors: Path | None = None
    ) -> Copy:
        """Start a script in a session of its own. `errors`: the file that gets stderr; None: stdout gets it, too."""
        with tempfile.TemporaryDirectory() as pipes:
            pipe = Path(pipes, "output")
            os.mkfifo(pipe)
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # before there is a writer
            copy = self._copy(arguments, folder, environment, str(pipe), str(errors or pipe), leads_session=True)
            select.select([reader], [], [], 60)  # until the copy has opened it, and printed
            os.set_blocking(reader, True)
        copy.stdout = os.fdopen(reader)
        return copy

    def start_training(self, training: SmallTraining, environment: dict[str, str]) -> Copy:
        """What SmallTraining.start() does."""
        files = [training.log, training.errors]
        for file in files:
            file.write_bytes(b"")
        return self._copy(["train.py"], training.root, environment, *map(str, files), leads_session=True)

    def _copy(self, arguments, folder, environment, output, errors, leads_session: bool) -> Copy:
        request = {"arguments": arguments, "folder": str(folder), "environment": environment}
        request |= {"output": output, "errors": errors, "leads_session": leads_session}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        while not self.started:
            self._receive(None)
        return Copy(self, self.started.pop(), None)

    def status(self, pid: int, timeout: float) -> int | None:
        deadline = time.monotonic() + timeout
        while pid not in self.ended and self._receive(max(0.0, deadline - time.monotonic())):
            pass
        return self.ended.get(pid)

    def _receive(self, timeout: float | None) -> bool:
        """Take answers; False if there is none within so many seconds."""
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            return False
        received = os.read(self.process.stdout.fileno(), 10_000)
        assert received, "the ready interpreter has ended"
        *lines, self.received = (self.received + received).split(b"\n")
        for line in lines:
            word, *numbers = line.split()
            if word == b"started":
                self.started.append(int(numbers[0]))
            else:
                self.ended[int(numbers[0])] = int(numbers[1])
        return True

    def close(self) -> None:
        self.process.communicate()


@functools.cache
def compile_program() -> None:
    """Put what Python compiles beside the program and the scripts, for their copies: else each run does it anew."""
    for folder, levels in ((ROOT, 0), (ROOT / "core", 0), (ROOT / "scripts", 9)):
        compileall.compile_dir(folder, levels, quiet=2)


def copy_compiled(root: Path) -> None:
    """Give a copy of the program what Python has compiled of it, and takes as long as the times are the same."""
    compile_program()
    for folder in ("__pycache__", "core/__pycache__"):
        # not what the other process of the tests is writing just now, under a name that it will change
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("*.pyc.*"))


@functools.cache
def ready_interpreter() -> ReadyInterpreter:
    """The one of this process."""
    return ReadyInterpreter()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 classes x 7 images."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 7)
    return folder


@pytest.fixture
def forked_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small trainings are copies of the ready interpreter, where how Python starts is not the fact."""
    monkeypatch.setattr(SmallTraining, "start", lambda *arguments: ready_interpreter().start_training(*arguments))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A temporary folder whose name is short enough for the sockets that loader workers make in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """A folder of a user whom permissions bind, who this process is until the test ends."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        if is_root:
            os.chown(name, NOBODY, -1)
            os.seteuid(NOBODY)
        yield Path(name)
        if is_root:
            os.seteuid(0)
        os.chmod(name, 0o755)


NOBODY = 65534


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


@pytest.fixture
def routines(request: pytest.FixtureRequest) -> None:
    """Of oneDNN, in the precision that a test has as `dtype`, else in float32: without them its test is skipped."""
    import torch  # by those alone that need it

    from core.folding import has_fused_convolution

    call = getattr(request.node, "callspec", None)
    dtype = call.params.get("dtype", torch.float32) if call else torch.float32
    if not has_fused_convolution(torch.device("cpu"), dtype):
        pytest.skip(f"needs oneDNN with {dtype}")
