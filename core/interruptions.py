# SPDX-License-Identifier: Apache-2.0
"""What ends a run early: Ctrl-C and SIGTERM, and a second run in the same folder."""

import contextlib
import fcntl
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import torch
import torch.distributed as dist

from core.atomic_files import describe_write_error
from core.processes import end_workers, num_processes, process_rank


class Interruptions:
    """What may come between two steps: SIGINT or SIGTERM, which are remembered, and the time for a checkpoint.

    Outside came() and agree() both are blocked in this thread, and so in the processes it starts: Ctrl-C, which a
    terminal sends to all of them, would otherwise kill the compiler that torch.compile has started for a step.
    A thread of its own takes them, and so also while a step waits for a file for ever: it says what comes, and ends
    the run at once if one comes again. torchrun sends a second one by itself, within moments of the first.
    `folder`: what only_run() holds.
    """

    def __init__(self, checkpoint_every_minutes: float, folder: Path) -> None:
        self.signal = 0
        self.period = 60 * checkpoint_every_minutes
        self.began = time.monotonic()  # which no change of the clock moves
        self.folder = folder
        self.announcing = threading.Lock()
        self.is_leaving = self.is_ending = False  # after a signal between two steps; at once
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # gets each signal, whichever thread has to take it
        for number in SIGNALS:
            signal.signal(number, self._remember)
        block_signals(True)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or number
        if self.is_ending:
            signal.signal(signal.SIGCHLD, lambda *_: None)  # torch's handler takes the end of workers for a failure
            time.sleep(END_SECONDS)  # the other thread is sooner

    def _watch(self, reader: int) -> None:
        """What the other thread does."""
        block_signals(False)
        first = None
        while received := os.read(reader, 1):
            number = received[0]
            if number not in SIGNALS:  # SIGCHLD
                continue
            if first is None:
                first = time.monotonic()
                self._announce(signal.Signals(number).name)
            elif time.monotonic() - first >= SECOND_SIGNAL_SECONDS:
                self._end(number)

    def _announce(self, name: str) -> None:
        with self.announcing:
            if not self.is_leaving:  # else the line of the end is under way
                say_at_once(
                    f"{name}: finishing this step; sent again after {SECOND_SIGNAL_SECONDS} seconds or more, it ends "
                    "the run at once."
                )

    def _end(self, number: int) -> None:
        """End the process, its workers, and what only_run() would remove."""
        self.is_ending = True
        signal.raise_signal(number)  # the main thread, if it goes on, comes to _remember() before it sees workers end
        threading.Timer(END_SECONDS, os._exit, [128 + number]).start()  # a file system that hangs holds this up too
        try:
            say_at_once(f"{signal.Signals(number).name} again: ended at once; what was saved before stays.")
            workers = multiprocessing.active_children()
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.join()
            if process_rank() == 0:
                with open(self.folder / LOCK_NAME, "rb") as file:
                    remove_traces(self.folder, file)
        finally:
            os._exit(128 + number)

    def came(self) -> bool:
        """Whether this process got a signal."""
        block_signals(False)  # what has waited is remembered now
        block_signals(True)
        return self.signal != 0

    def agree(self) -> tuple[int, bool]:
        """The signal that any of the processes got, 0 for none, and whether a checkpoint is due; the same in all."""
        self.came()
        number, is_due = self.signal, 0 < self.period <= time.monotonic() - self.began
        if num_processes() > 1:
            answers = torch.tensor([number, is_due])
            dist.all_reduce(answers, dist.ReduceOp.MAX)
            number, is_due = int(answers[0]), bool(answers[1])  # a signal that came meanwhile waits for the next time
        if number:
            with self.announcing:
                self.is_leaving = True
        if is_due:
            self.began = time.monotonic()
        return number, is_due


SECOND_SIGNAL_SECONDS = 2  # from the first one to one that counts
END_SECONDS = 5
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def say_at_once(line: str) -> None:
    """Write a line to stderr past Python's buffers, whose locks a thread that hangs may hold; in process 0 alone."""
    if process_rank() == 0:
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())


def block_signals(is_blocked: bool) -> None:
    """Let SIGINT and SIGTERM wait, or let them come, in this thread and the processes it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK if is_blocked else signal.SIG_UNBLOCK, SIGNALS)


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a folder for this run; the system lets go of it however the process ends.

    What a killed run has left in /dev/shm is removed. Raises: ValueError if another run holds the folder.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    with open_lock(folder / LOCK_NAME) as file:
        if not try_lock(file.fileno()):
            file.seek(0)
            raise ValueError(
                f"{folder}: in use by another run, process {file.readline().decode().strip()}; wait for its end, or "
                "choose another exp_name"
            )
        remove_shared_memory(file)
        file.truncate(0)
        try:
            file.write(f"{os.getpid()}\n".encode())
            yield
        except BaseException:
            end_workers()
            raise
        finally:
            remove_traces(folder, file)
            with contextlib.suppress(OSError):  # a run that was refused leaves nothing, others leave files
                for path in created:
                    path.rmdir()


LOCK_NAME = ".lock"  # its lines are the numbers of the processes


def remove_traces(folder: Path, lock: BinaryIO) -> None:
    """Remove what would tell the next start of this run: its lock, and memory of the workers that have ended."""
    remove_shared_memory(lock)
    (folder / LOCK_NAME).unlink(missing_ok=True)


def note_worker(folder: Path) -> None:
    """Note this process, a worker, in the folder of its run; in the main one, closing the file would end the lock."""
    with contextlib.suppress(OSError), open(folder / LOCK_NAME, "a") as file:  # a folder that vanished is made anew
        file.write(f"{os.getpid()}\n")


def remove_shared_memory(lock: BinaryIO) -> None:
    """Remove what processes of a lock that have ended left in /dev/shm: a batch has a name there for a microsecond."""
    lock.seek(0)
    for number in filter(bytes.isdigit, lock.read().split()):
        if not Path(f"/proc/{int(number)}").exists():
            for path in Path("/dev/shm").glob(f"torch_{int(number)}_*"):
                with contextlib.suppress(OSError):
                    path.unlink()


def open_lock(path: Path) -> BinaryIO:
    """Open the lock file of a folder, both made if need be. Raises: OSError in words for users."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+b", buffering=0)
    except OSError as error:
        raise describe_write_error(path, error) from error


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process and not for its children; where there are no such locks, do without."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_nlink > 0  # else a run that ended just now has removed it
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # some network disks have no locks
        return True
