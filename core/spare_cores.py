# SPDX-License-Identifier: Apache-2.0
"""As many threads as other programs leave cores: Linux only, elsewhere the number stays.

The threads of a step wait for one another by spinning, and each has an equal share of the work. If another program
takes half of the time of one of them, all take four times as long; with one thread less, twice.
"""

import multiprocessing
import os
import time
from pathlib import Path
from typing import NamedTuple

import torch

from core.plurals import counted

PROC = Path("/proc")
PERIOD = 2.0  # seconds from one look to the next
LOOKS = 2  # that must agree: what passes soon is not answered
IDLE = 0.5  # cores that do nothing, from which on no program waits for one


class Usage(NamedTuple):
    """Clock ticks of processors until now."""

    all: int  # of those that this process may use, by whichever program that does not make way for it
    own: dict[int, int]  # of this process and its workers, by their numbers


class SpareCores:
    """Sets the number of torch's threads between two steps; with another one sums are rounded in another order."""

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self.before: Usage | None = None
        self.looked = time.monotonic() - PERIOD
        self.agreed = 0

    def adapt(self) -> None:
        """Look whether cores are taken or free, at most every PERIOD, and take as many threads as there are."""
        seconds = time.monotonic() - self.looked
        if seconds < PERIOD:
            return
        now, before = read_usage(), self.before
        self.looked, self.before = time.monotonic(), now
        if before is not None and now is not None:
            ticks = seconds * os.sysconf("SC_CLK_TCK")
            self.note(others(before, now) / ticks, (now.all - before.all) / ticks)

    def note(self, busy: float, used: float) -> None:
        """Note how many cores other programs keep busy, and how many all do: while some are idle nothing is short."""
        threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
        fewer, more = (min(self.most, max(1, int(cores - busy + rounding))) for rounding in (0.5, 0.3))
        is_short = used > cores - IDLE
        wanted = fewer if fewer < threads and is_short else max(threads, more)
        self.agreed = self.agreed + 1 if wanted != threads else 0
        if self.agreed == LOOKS:
            self.agreed = 0
            torch.set_num_threads(wanted)
            print(
                f"Other programs keep {busy:.1f} of {counted(cores, 'core')} busy: {wanted} of {self.most} threads "
                f"from here on, which rounds otherwise; with OMP_NUM_THREADS={self.most} it stays at {self.most}.",
                flush=True,
            )


def read_usage() -> Usage | None:
    """Of the processors and of this process with its workers; None where the system does not tell."""
    try:
        own = {os.getpid(): int(sum(os.times()[:2]) * os.sysconf("SC_CLK_TCK"))}
        for worker in multiprocessing.active_children():
            fields = (PROC / str(worker.pid) / "stat").read_text().rpartition(")")[2].split()
            own[int(worker.pid or 0)] = int(fields[11]) + int(fields[12])  # proc(5): utime and stime
        rows = [line.split() for line in (PROC / "stat").read_text().splitlines() if line.startswith("cpu")]
        mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    except (OSError, AttributeError, ValueError, IndexError):
        return None
    # proc(5): user, nice, system, interrupts. What is nice makes way, unless this process is nice too.
    columns = (1, 2, 3, 6, 7) if os.nice(0) > 0 else (1, 3, 6, 7)
    return Usage(sum(int(row[column]) for row in rows if row[0] in mine for column in columns), own)


def others(before: Usage, now: Usage) -> int:
    """The ticks between that were not this program's; a worker that has ended between counts as another's."""
    own = sum(ticks - before.own.get(pid, 0) for pid, ticks in now.own.items())
    return max(0, now.all - before.all - own)


_spare_cores: SpareCores | None = None


def watch_cores(is_on: bool) -> None:
    """Let adapt_threads() do something from now on, or nothing. OMP_NUM_THREADS and torchrun have the last word."""
    global _spare_cores
    _spare_cores = SpareCores() if is_on and "OMP_NUM_THREADS" not in os.environ else None


def adapt_threads() -> None:
    """Between two batches: SpareCores.adapt()."""
    if _spare_cores is not None:
        _spare_cores.adapt()
