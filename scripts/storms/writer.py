# SPDX-License-Identifier: Apache-2.0
"""Stop and kill the program's checkpoint writer at every system call, and look at what is on disk."""

import contextlib
import importlib.util
import io
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from core import checkpoints, resuming, weights_files
from dataset import CPUPrefetcher
from shared.small_training import CLASSES, SAMPLES, CountedImages, create_project, differences
from storms.record import Tally
from storms.system_calls import Traced, TracingRefusedError, WriteOrder, fork
from train import create_train_state

Save = Callable[[Path, checkpoints.TrainState, ModuleType], None]


class WriterStorm:
    """Two training states of a small network, each written in turn over the checkpoint of the other.

    The harness looks from outside: under the final name must lie all of one state or all of the other, and resume
    must take it. Run it in the working directory `root`/project, where the program's relative paths are.
    """

    def __init__(self, project: Path, seed: int = 0, save: Save = checkpoints.save_train_state) -> None:
        self.project, self.save = project, save
        self.tally, self.random = Tally("writer"), random.Random(seed)
        self.config = load_config(project)
        self.states = [self._create_state(version) for version in (0, 1)]
        self.resumed = self._create_state(2)
        self.folder = project / SAMPLES
        self.final = self.folder / f"epoch_{EPOCH}.pth.tar"
        self.contents: list[dict[str, Any]] = []  # of the two states, as the program's reader gives them
        self.last_seen: tuple[bytes, int | None] = (b"", None)  # the last file read, and the state it holds
        self._write_first_files()
        self.writing = 0  # the state of the current write
        self.stops_of_a_write = 0
        self.restarted: set[tuple[object, ...]] = set()  # what the folder held at the restarts since the last kill

    def _create_state(self, version: int) -> checkpoints.TrainState:
        """A state after one step on made-up gradients, so that the optimizer too has something to keep."""
        torch.manual_seed(version)
        state = create_train_state(self.config, torch.device("cpu"), cast(CPUPrefetcher, FakeBatches()))
        for parameter in state.network.parameters():
            parameter.grad = torch.randn_like(parameter)
        state.optimizer.step()
        state.ema_network.update_parameters(state.network)
        state.epoch, state.best_score = EPOCH, 10.0 + version
        return state

    def _write_first_files(self) -> None:
        """An older checkpoint, and version 0 under the final name; both by the program's own writer."""
        self.folder.mkdir(parents=True)
        for state in reversed(self.states):
            checkpoints.save_train_state(self.final, state, self.config)
            self.contents.insert(0, weights_files.read_checkpoint(self.final))
        state.epoch = EPOCH - 1
        checkpoints.save_train_state(self.folder / f"epoch_{EPOCH - 1}.pth.tar", state, self.config)
        state.epoch = EPOCH

    def watch_write(self) -> None:
        """Follow one write, and check the file at each stop; then what a power failure could have done."""
        order = WriteOrder(self.final)
        writer = Traced(self._start_version())
        stops = 0
        try:
            for stop in writer.stops():
                stops += 1
                order.follow(stop)
                self._check(f"{'before' if stop.result is None else 'after'} {stop.name or 'a system call'}")
        finally:
            writer.kill()
        self.stops_of_a_write = stops
        self.tally.add("writes")
        self.tally.add("stops", stops)
        for fault in order.finish():
            self.tally.fault("order_faults", fault)
        if writer.status != 0 or self._identify() != self.writing:
            self.tally.fault("failed_writes", f"the writer ended with status {writer.status}")

    def kill_at_stops(self, kills: int) -> None:
        """SIGKILL to writers at stops drawn without repetition, until all had their turn, and so on."""
        points: list[int] = []
        for _ in range(kills):
            if not points:
                points = self.random.sample(range(self.stops_of_a_write), self.stops_of_a_write)
            point = points.pop()
            writer = Traced(self._start_version())
            try:
                for number, _ in enumerate(writer.stops()):
                    if number == point:
                        break
            finally:
                writer.kill()
            self.tally.add("kills")
            self._check_after_kill(f"after SIGKILL at stop {point}")

    def kill_at_times(self, kills: int) -> None:
        """SIGKILL to writers at random times, for machines that do not permit ptrace."""
        seconds = statistics.median(self._time_a_write() for _ in range(5))
        for _ in range(kills):
            pid = fork(self._start_version())
            delay = self.random.uniform(0, 1.1 * seconds)
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.tally.add("timed_kills")
            self._check_after_kill(f"after SIGKILL at {delay:.4f} s")

    def _time_a_write(self) -> float:
        """Seconds from the start of a child process until its write has returned."""
        write = self._start_version()
        reader, end = os.pipe()

        def write_and_tell() -> None:
            write()
            os.write(end, b"done")

        began = time.perf_counter()
        pid = fork(write_and_tell)
        os.close(end)
        os.read(reader, 4)  # ends without a byte if the child fails
        seconds = time.perf_counter() - began
        os.close(reader)
        _, status = os.waitpid(pid, 0)
        if status != 0 or self._identify() != self.writing:
            self.tally.fault("failed_writes", f"the writer ended with status {os.waitstatus_to_exitcode(status)}")
        return seconds

    def _start_version(self) -> Callable[[], None]:
        """The next write: the state that is not on disk, over the one that is."""
        self.writing = 1 if self._identify() == 0 else 0
        return lambda: self.save(self.final, self.states[self.writing], self.config)

    def _identify(self) -> int | None:
        """Which of the two states lies under the final name; None if there is no whole file of either."""
        try:
            data = self.final.read_bytes()
        except FileNotFoundError:
            return None
        if data != self.last_seen[0]:
            found = None
            with contextlib.suppress(ValueError):
                content = weights_files.read_checkpoint(self.final)
                found = next((v for v in (0, 1) if not any(differences(content, self.contents[v]))), None)
            self.last_seen = (data, found)
        return self.last_seen[1]

    def _check(self, moment: str) -> None:
        """Look at the final name as a restart at this moment would; restart if the folder is not as it was before."""
        version = self._identify()
        if version is None:
            self.tally.fault("unreadable", moment)
            return
        self.tally.add("new_files" if version == self.writing else "old_files")
        seen = (version, *sorted(path.name for path in self.folder.iterdir()))
        if seen not in self.restarted:
            self.restarted.add(seen)
            self._restart(moment)

    def _check_after_kill(self, moment: str) -> None:
        """Read what a killed writer left with the program's own reader, restart, and clear its temporary file."""
        self.last_seen = (b"", None)
        self.restarted.clear()
        self._check(moment)
        for path in self.folder.glob(".*.partial"):
            path.unlink()

    def _restart(self, moment: str) -> None:
        """Let resume = "auto" choose; it must take the file under the final name."""
        self.tally.add("restarts")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                taken = resuming.resume_training(self.resumed, self.config)
        except (ValueError, OSError) as error:
            self.tally.fault("failed_restarts", f"{moment}: {error}")
            return
        if taken is None or taken.name != self.final.name:
            self.tally.fault("failed_restarts", f"{moment}: it took {taken}")


EPOCH = 3  # the finished epochs of the checkpoint that is written


class FakeBatches:
    """What create_train_state asks of the batches."""

    dataset = CountedImages(10_000, CLASSES)

    def __len__(self) -> int:
        return 7


def load_config(project: Path) -> ModuleType:
    """The config.py of a project as a module."""
    path = project / "config.py"
    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: not a file of Python")
    config = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(config)
    return config


def storm_writer(root: Path, writes: int, kills: int, seed: int) -> Tally:
    """Follow so many writes, kill so many writers. Without ptrace all of them are killed at random times."""
    project = root / "project"
    create_project(project, images_per_class=1, model_width_mult=0.1)
    with contextlib.chdir(project):
        storm = WriterStorm(project, seed)
        try:
            for _ in range(writes):
                storm.watch_write()
            storm.kill_at_stops(kills)
        except TracingRefusedError as error:
            print(f"{error}: the writers are killed at random times instead of being stopped at each system call")
            storm.kill_at_times(writes + kills)
    return storm.tally
