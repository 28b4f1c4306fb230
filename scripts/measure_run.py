# SPDX-License-Identifier: Apache-2.0
"""Measure whether a long run grows, and what runs leave behind that end, fail or are killed: Linux only.

    python3 scripts/measure_run.py [--epochs 20]

trains on a small made-up set with 2 workers, and prints after each epoch, for the main process and the workers:
private   MB written by the process and shared with no other; a page becomes private when a worker changes its copy
all       MB of the main process that no file backs, shared with its workers or not: what its program has asked for
files     open files, pipes and sockets; those of batches under way come and go
Exit status 1 if a run leaves a process or a segment of shared memory.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from shared.command_line import OneLineParser
from shared.processes import count_threads, memory, open_files
from shared.small_training import SmallTraining, create_project
from utils import user_errors

FIRST_EPOCH = 3  # growth is counted from here: caches are filled by then


class Sample(NamedTuple):
    """One process after one epoch; memory in MB."""

    private: float
    all: float
    files: int
    threads: int


class Ending(NamedTuple):
    """What was left after the end of a run."""

    status: int
    seconds: float  # from the event to the end of the last process
    processes: int
    segments: int
    temporary: int
    said: str  # the last line of stderr


def main() -> int:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help=f"epochs to measure, more than {FIRST_EPOCH}")
    epochs = parser.parse_args().epochs
    if epochs <= FIRST_EPOCH:
        raise ValueError(f"--epochs {epochs}: growth is counted from epoch {FIRST_EPOCH}; take more")
    with tempfile.TemporaryDirectory(prefix="measure_run_") as folder:
        samples, ending = measure_growth(Path(folder, "grow"), epochs)
        print_samples(samples)
        endings = {"the end of training": ending}
        for name, event in EVENTS.items():
            endings[name] = measure_ending(Path(folder, name), event)
        print_endings(endings)
    return 1 if any(ending.processes or ending.segments for ending in endings.values()) else 0


def measure_growth(root: Path, epochs: int) -> tuple[list[list[Sample]], Ending]:
    """Samples of the main process and of each worker after each epoch. Raises: ValueError if the run fails."""
    create_project(root, IMAGES_PER_CLASS, epochs=epochs + SPARE_EPOCHS)
    training = SmallTraining(root)
    samples = []
    for epoch in range(1, epochs + 1):
        if not training.wait_for(f" * Epoch {epoch}/"):
            training.kill()
            raise ValueError(f"the run did not reach epoch {epoch}: {last_line(training)}")
        os.killpg(training.process.pid, signal.SIGSTOP)  # or the run gets ahead, and ends while it is looked at
        samples.append([take_sample(pid) for pid in training.processes()])
        os.killpg(training.process.pid, signal.SIGCONT)
    training.wait_for(f" * Epoch {epochs + SPARE_EPOCHS}/")
    return samples, look_at_ending(training)


IMAGES_PER_CLASS = 64
SPARE_EPOCHS = 3  # it may do so many more before it is seen to have done one


def take_sample(pid: int) -> Sample:
    # Private_Clean is left out: pages of libraries, which depend on what else runs on this machine
    private, anonymous = (memory(pid, kind) / 1e6 for kind in ("Private_Dirty:", "Anonymous:"))
    return Sample(private, anonymous, open_files(pid), count_threads(pid))


def measure_ending(root: Path, event: Callable[[SmallTraining], None]) -> Ending:
    """Start a run that would go on for long, let the event happen after its second epoch, see what is left."""
    create_project(root, IMAGES_PER_CLASS, epochs=1000)
    training = SmallTraining(root)
    if not training.wait_for(" * Epoch 2/"):
        training.kill()
        raise ValueError(f"the run did not reach epoch 2: {last_line(training)}")
    event(training)
    return look_at_ending(training)


def look_at_ending(training: SmallTraining) -> Ending:
    """Wait for the end of all processes, and count what is left."""
    began = time.monotonic()
    processes = training.left_processes()
    seconds = time.monotonic() - began
    training.process.wait()
    return Ending(
        training.process.returncode,
        seconds,
        len(processes),
        len(training.left_segments()),
        len(training.left_temporary()),
        last_line(training),
    )


def last_line(training: SmallTraining) -> str:
    lines = training.errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def damage_image(training: SmallTraining) -> None:
    """Cut an image of the training set short: the worker that reads it fails."""
    path = next(iter(sorted((training.root / "data/Colours/train").glob("*/*.png"))))
    path.write_bytes(path.read_bytes()[:100])


def kill_worker(training: SmallTraining) -> None:
    os.kill(training.processes()[1], signal.SIGKILL)


def kill_main(training: SmallTraining) -> None:
    os.kill(training.process.pid, signal.SIGKILL)


EVENTS = {
    "an unreadable image in a worker": damage_image,
    "SIGKILL of a worker": kill_worker,
    "SIGKILL of the main process": kill_main,
    "SIGKILL of all processes": SmallTraining.kill,
}


def growth(samples: list[list[Sample]]) -> list[Sample]:
    """The last sample of each process less that of FIRST_EPOCH."""
    pairs = zip(samples[FIRST_EPOCH - 1], samples[-1], strict=True)
    return [Sample._make(after - before for before, after in zip(*pair, strict=True)) for pair in pairs]


def print_samples(samples: list[list[Sample]]) -> None:
    """One line an epoch, then the growth."""
    workers = len(samples[0]) - 1
    names = "".join(f" {f'worker {number}':>15}" for number in range(1, workers + 1))
    print(f"{'':8} {'main process':>31}{names}")
    print(
        f"{'epoch':8} {'private':>8} {'all':>8} {'files':>5} {'threads':>7}" + f" {'private':>9} {'files':>5}" * workers
    )
    for number, row in enumerate(samples, start=1):
        print(row_text(str(number), row, sign=""))
    print(row_text(f"{FIRST_EPOCH} to {len(samples)}", growth(samples), sign="+"))


def row_text(name: str, row: list[Sample], sign: str) -> str:
    """The main process and its workers in one line; `sign`: "+" marks growth."""
    main, *workers = row
    text = f"{name:8} {main.private:>{sign}8.1f} {main.all:>{sign}8.1f} {main.files:>{sign}5} {main.threads:>{sign}7}"
    return text + "".join(f" {worker.private:>{sign}9.1f} {worker.files:>{sign}5}" for worker in workers)


def print_endings(endings: dict[str, Ending]) -> None:
    """One line an ending."""
    print(f"\n{'after':32} {'status':>6} {'seconds':>7} {'processes':>9} {'/dev/shm':>8} {'temporary':>9}  last line")
    for name, ending in endings.items():
        counts = f"{ending.processes:>9} {ending.segments:>8} {ending.temporary:>9}"
        print(f"{name:32} {ending.status:>6} {ending.seconds:>7.1f} {counts}  {ending.said}")


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
