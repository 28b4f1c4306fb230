# SPDX-License-Identifier: Apache-2.0
"""What /proc and /dev/shm tell of running processes, on Linux: memory, open files, and what a dead run has left."""

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def private_memory(pid: int) -> int:
    """Bytes of a process that it shares with no other. Raises: OSError on a system other than Linux."""
    return memory(pid, "Private_")


def memory(pid: int, kind: str) -> int:
    """Bytes of a process in the lines of /proc/<pid>/smaps_rollup that begin so. Raises: OSError if it has ended."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def open_files(pid: int) -> int:
    """How many files, pipes and sockets a process has open. Raises: OSError if it has ended."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def count_threads(pid: int) -> int:
    """How many threads a process has. Raises: OSError if it has ended."""
    return len(os.listdir(f"/proc/{pid}/task"))


def descendants(pid: int) -> list[int]:
    """The live processes that a process has started, and those that these have."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:  # which grows
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def session_processes(session: int) -> list[int]:
    """The live processes of a session; one that only waits to be collected by its parent holds nothing any more."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = Path(f"/proc/{name}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        state, _, _, its_session = status.rpartition(")")[2].split()[:4]
        if int(its_session) == session and state not in "ZX":
            found.append(int(name))
    return sorted(found)


def shared_memory() -> set[str]:
    """The segments of torch and the semaphores of multiprocessing that have a name in /dev/shm."""
    return {path.name for path in SHARED_MEMORY.glob("*") if re.match(r"torch_|sem\.mp-|psm_", path.name)}


def wait_until(condition: Callable[[], bool], seconds: float, interval: float = 0.002) -> bool:
    """Ask until the condition holds; False if it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
