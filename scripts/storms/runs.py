# SPDX-License-Identifier: Apache-2.0
"""Kill whole training runs at random times, restart them, and compare their end with an uninterrupted run."""

import fcntl
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from core import weights_files
from core.plurals import counted
from shared.processes import shared_memory, wait_until
from shared.small_training import RESULTS, SAMPLES, SmallTraining, create_project, differences, partial_files
from storms.record import Tally

FIRST_PROGRESS = "Epoch: ["
MOST_SECONDS = 600  # of one start; a run that takes longer hangs


class RunStorm:
    """Copies of one project, killed and restarted.

    `spread`: a kill comes within so many seconds after the first progress line of a start.
    """

    def __init__(self, root: Path, *, seed: int, epochs: int, images_per_class: int, spread: float) -> None:
        self.root, self.spread = root, spread
        self.tally, self.random = Tally("runs"), random.Random(seed)
        self.straight = root / "straight"
        self.segments: set[str] = set()  # all that kills have left in /dev/shm
        # About one file in the middle of each epoch.
        create_project(self.straight, images_per_class, epochs=epochs, checkpoint_every_minutes=0.01)
        self.last_checkpoint = SAMPLES / f"epoch_{epochs}.pth.tar"

    def run_straight(self) -> None:
        """The run that nobody interrupts. Raises: ValueError if it fails, as nothing can be compared then."""
        began = time.monotonic()
        training = SmallTraining(self.straight)
        training.wait_for(FIRST_PROGRESS)
        self.start_seconds = time.monotonic() - began
        training.process.wait(MOST_SECONDS)
        if training.process.returncode != 0:
            raise ValueError(f"the uninterrupted run failed: {training.errors.read_text().strip()[-500:]}")

    def run_killed(self, number: int, kills: int) -> None:
        """Kill a run so many times at most, restart it until it ends, compare."""
        project = self.root / f"killed_{number}"
        shutil.copytree(self.straight, project, ignore=shutil.ignore_patterns("samples", "results", "tmp"))
        self.tally.add("runs")
        for start in range(kills + 1):
            if start > 0:
                self.tally.add("restarts")
            training = SmallTraining(project)
            if start < kills:
                self._choose_moment(training)()
            else:
                wait_until(training.has_ended, MOST_SECONDS)
            if training.has_ended():
                break
            self._kill(training, f"run {number}, start {start}")
        self._judge_end(training, f"run {number}, start {start}")
        shutil.rmtree(project)

    def _choose_moment(self, training: SmallTraining) -> Callable[[], None]:
        """What to wait for before the kill: a time within the start, within the training, or a checkpoint write."""
        kind, delay = self.random.random(), self.random.random()

        def in_start() -> None:
            wait_until(training.has_ended, delay * self.start_seconds)

        def in_training() -> None:
            training.wait_for(FIRST_PROGRESS)
            wait_until(training.has_ended, delay * self.spread)

        def in_write() -> None:
            in_training()
            wait_until(lambda: training.has_ended() or bool(partial_files(training.root)), MOST_SECONDS, interval=0)
            time.sleep(0.01 * self.random.random())  # a write takes about as long

        return in_start if kind < 0.15 else in_training if kind < 0.6 else in_write

    def _kill(self, training: SmallTraining, moment: str) -> None:
        """Kill all processes of a run, and look at everything they leave."""
        training.kill()
        if training.process.returncode >= 0:  # it ended by itself just before
            return
        self.tally.add("kills")
        lines = [line for line in training.output().splitlines() if line.startswith((FIRST_PROGRESS, "Test: [", " *"))]
        is_validating = bool(lines) and lines[-1].startswith("Test: [")
        in_write = bool(self._written_in_vain(training))
        phase = "write" if in_write else "validation" if is_validating else "training" if lines else "start"
        self.tally.add(f"kills_in_{phase}")
        for pid in training.left_processes():
            self.tally.fault("left_processes", f"{moment}: process {pid}")
        self.segments.update(training.left_segments())
        self.tally.counts["kill_segments"] = len(self.segments)
        if not can_lock(training.root / SAMPLES / ".lock"):
            self.tally.fault("stale_locks", moment)
        for path in sorted(path for folder in (SAMPLES, RESULTS) for path in (training.root / folder).glob("*.tar")):
            self.tally.add("checkpoints_read")
            try:
                weights_files.read_checkpoint(path)
            except ValueError as error:
                self.tally.fault("unreadable", f"{moment}: {error}")

    def _written_in_vain(self, training: SmallTraining) -> list[Path]:
        """The temporary files of the process just killed: their names hold its number."""
        return [path for path in partial_files(training.root) if f".{training.process.pid}." in path.name]

    def _judge_end(self, training: SmallTraining, moment: str) -> None:
        """How the last start ended, and whether its files are those of the uninterrupted run."""
        if training.process.poll() is None:
            training.kill()
            self.tally.fault("failed_restarts", f"{moment}: did not end within {MOST_SECONDS} s")
            return
        if training.process.returncode != 0:
            said = training.errors.read_text().strip()[-500:]
            self.tally.fault("failed_restarts", f"{moment}: status {training.process.returncode}: {said}")
            return
        files = (self.last_checkpoint, RESULTS / "last.pth.tar", RESULTS / "best.pth.tar")
        found = [line for file in files for line in self._compare(training.root, file)]
        if found:
            self.tally.fault("different_runs", f"{moment}: {counted(len(found), 'difference')}, the first {found[0]}")
        for name in sorted(self.segments & shared_memory()):
            self.tally.fault("left_segments", f"{moment}: /dev/shm/{name}")
        self.tally.add("left_partial_files", len(partial_files(training.root)))
        self.tally.add("left_temporary_entries", len(training.left_temporary()))

    def _compare(self, project: Path, file: Path) -> list[str]:
        """Where a file differs from that of the uninterrupted run."""
        try:
            one, other = (weights_files.read_checkpoint(root / file) for root in (self.straight, project))
        except (ValueError, OSError) as error:
            return [str(error)]
        return list(differences(one, other, str(file)))


def can_lock(path: Path) -> bool:
    """Whether nobody holds the lock; True if there is no such file."""
    try:
        with path.open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def storm_runs(
    root: Path, *, runs: int, kills: int, seed: int, epochs: int, images_per_class: int, spread: float
) -> Tally:
    """Kill so many runs so many times each; the rest as RunStorm takes it."""
    storm = RunStorm(root, seed=seed, epochs=epochs, images_per_class=images_per_class, spread=spread)
    storm.run_straight()
    for number in range(runs):
        storm.run_killed(number, kills)
    return storm.tally
