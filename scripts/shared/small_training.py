# SPDX-License-Identifier: Apache-2.0
"""A small training run in a folder of its own, as a user would start it; measuring and killing scripts watch it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from shared.command_line import REPOSITORY
from shared.processes import session_processes, shared_memory, wait_until

PROGRAM = [f"{name}.py" for name in ("config", "model", "imgproc", "dataset", "utils", "train", "test", "inference")]
CLASSES = ("blue", "green", "red")
EXP_NAME = "Storm"
SAMPLES, RESULTS = Path("samples", EXP_NAME), Path("results", EXP_NAME)
# Everything that keeps state is on: workers, mixup, accumulation with a last smaller group, the average.
SETTINGS = {
    **{"mode": "train", "exp_name": EXP_NAME},
    **{"dataset_name": "Colours", "model_num_classes": 3, "model_width_mult": 0.35, "device": "cpu", "num_workers": 2},
    **{
        "resume": "auto",
        "batch_size": 8,
        "gradient_accumulation_steps": 4,
        "lr_warmup_epochs": 0.5,
        "mixup_alpha": 0.2,
    },
    **{"model_ema_decay": 0.9, "train_print_frequency": 1, "valid_print_frequency": 1, "keep_checkpoints": 2},
}
END_SECONDS = 20  # a worker looks for its parent every 5 s
LOOK_SECONDS = 0.02  # from one look for what is left to the next, each of which reads all of /proc or /dev/shm


class CountedImages:
    """What train.create_train_state() asks of a dataset: how many images there are, and their classes."""

    def __init__(self, count: int, classes: Sequence[str] = ()) -> None:
        self.count, self.classes = count, list(classes)

    def __len__(self) -> int:
        return self.count


def create_project(root: Path, images_per_class: int, **values: object) -> None:
    """Copy the program into a new folder, make a dataset, and edit config.py.

    `values`: changes of SETTINGS. Raises: ValueError if config.py has no such line.
    """
    copy_program(root)
    write_images(root / "data/Colours/train", images_per_class)
    write_images(root / "data/Colours/valid", max(1, images_per_class // 3), seed=1)
    edit_config(root / "config.py", SETTINGS | values)


def copy_program(root: Path) -> None:
    """Copy the eight files and core/, with their times, into a folder, which is made if need be."""
    root.mkdir(parents=True, exist_ok=True)
    for name in PROGRAM:
        shutil.copy2(REPOSITORY / name, root / name)
    shutil.copytree(REPOSITORY / "core", root / "core", ignore=shutil.ignore_patterns("__pycache__"))


def write_images(folder: Path, images_per_class: int, seed: int = 0) -> None:
    """Noisy 36 x 30 PNGs of three colours in class folders: easy to tell apart, no two the same."""
    generator = np.random.default_rng(seed)
    for channel, name in enumerate(CLASSES):  # OpenCV writes blue, green, red
        (folder / name).mkdir(parents=True)
        for index in range(images_per_class):
            image = generator.integers(0, 160, (30, 36, 3), dtype=np.uint8)
            image[..., channel] += 90
            cv2.imwrite(str(folder / name / f"{index:03}.png"), image)


def edit_config(path: Path, values: Mapping[str, object]) -> None:
    """Give names of a config.py other values, each on its line. Raises: ValueError if there is no such line."""
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        text, count = set_value(text, name, value)
        if count == 0:
            raise ValueError(f"{path}: has no line {name} = ...")
    path.write_text(text, encoding="utf-8")


def set_value(text: str, name: str, value: object) -> tuple[str, int]:
    """The text of a config.py with another value of a name, and on how many lines that stood."""
    return re.subn(rf"(?m)^( *){name} = .*$", lambda match: f"{match[1]}{name} = {value!r}", text)


class SmallTraining:
    """train.py running in a session of its own, so that all of its processes can be found and killed together."""

    def __init__(self, root: Path) -> None:
        self.root, self.log, self.errors = root, root / "output.txt", root / "errors.txt"
        self.temporary = root / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.segments_before = shared_memory()
        # What it leaves in a temporary folder of its own is known to be its own.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
        self.process = self.start(environment)

    def start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "train.py"],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=errors,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def processes(self) -> list[int]:
        """The main process first, then its workers."""
        pid = self.process.pid
        return sorted(session_processes(pid), key=lambda other: (other != pid, other))

    def wait_for(self, text: str, seconds: float = 120) -> bool:
        """Wait for a text in the output; False if the run ends or the time is over before it appears."""
        wait_until(lambda: text in self.output() or self.has_ended(), seconds)
        return text in self.output()

    def kill(self) -> None:
        """SIGKILL to the whole process group, then collect the main process."""
        if not self.has_ended():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def left_processes(self) -> list[int]:
        """The processes that have not ended after END_SECONDS; they are killed."""
        wait_until(lambda: self.has_ended() and not self.processes(), END_SECONDS, LOOK_SECONDS)
        left = self.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left

    def left_segments(self) -> list[str]:
        """The segments in /dev/shm that have appeared since the start and stay."""
        new = shared_memory() - self.segments_before  # by other programs too, whose own ones come and go
        wait_until(lambda: not new & shared_memory(), END_SECONDS, LOOK_SECONDS)
        return sorted(new & shared_memory())

    def left_temporary(self) -> list[str]:
        """What it has put into the folder for temporary files, but for the cache that torch shares between runs."""
        return sorted(path.name for path in self.temporary.iterdir() if not path.name.startswith("torchinductor_"))


def partial_files(root: Path) -> list[Path]:
    """The temporary files of checkpoints and weights that are being written, or were when the run was killed."""
    return [path for folder in (SAMPLES, RESULTS) for path in (root / folder).glob(".*.partial")]


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two checkpoints differ in type, order or one bit."""
    if type(one) is not type(other):
        yield f"{where}: {type(one).__name__}, {type(other).__name__}"
    elif isinstance(one, dict) and list(one) == list(other):
        for key in one:
            yield from differences(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield f"{where}: other values"
    elif one != other:
        yield f"{where}: {str(one)[:60]}, {str(other)[:60]}"
