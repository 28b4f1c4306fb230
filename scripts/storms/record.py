# SPDX-License-Identifier: Apache-2.0
"""The counts of kill_storm.py: collected by a storm, added to a record, and summed over all storms of the record."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.command_line import REPOSITORY

# What each part counts, in the order of the tables; a count listed in FAULTS must be 0.
TITLES = {
    "writer": {
        "writes": "checkpoint writes followed from system call to system call",
        "stops": "stops before and after a system call, the file checked at each",
        "kills": "writers killed at such a stop",
        "timed_kills": "writers killed at a random time, where ptrace is not permitted",
        "old_files": "checks that found the checkpoint before the write, bit for bit",
        "new_files": "checks that found the new checkpoint, bit for bit",
        "restarts": "restarts tried with what was found",
        "unreadable": "checks that found no whole checkpoint",
        "failed_restarts": "restarts that did not take that checkpoint",
        "order_faults": "writes that a power failure could have left without a whole checkpoint",
        "failed_writes": "writes that ended with an error",
    },
    "runs": {
        "runs": "training runs, killed and restarted until they ended",
        "kills": "SIGKILLs of all processes of a run",
        "kills_in_start": "of these while starting",
        "kills_in_training": "of these while training",
        "kills_in_validation": "of these while validating",
        "kills_in_write": "of these while a checkpoint or weights were being written",
        "restarts": "restarts",
        "checkpoints_read": "checkpoints and weights read after a kill",
        "unreadable": "of these unreadable",
        "failed_restarts": "restarts that ended with an error",
        "different_runs": "runs whose last checkpoint or weights differ from those of an uninterrupted run",
        "left_processes": "processes left",
        "kill_segments": "segments in /dev/shm after a kill",
        "left_segments": "of these left after the end of the run",
        "stale_locks": "locks held after a kill",
        "left_partial_files": "temporary files in the folders of a run after its end",
        "left_temporary_entries": "entries in the folder for temporary files after the end of a run",
    },
}
FAULTS = {
    "writer": ("unreadable", "failed_restarts", "order_faults", "failed_writes"),
    "runs": (
        *("unreadable", "failed_restarts", "different_runs"),
        *("left_processes", "left_segments", "stale_locks", "left_partial_files"),
    ),
}
RECORD = REPOSITORY / "docs/reliability.json"


class Tally:
    """The counts of one storm, and a line for each fault."""

    def __init__(self, part: str) -> None:
        self.part, self.counts, self.faults = part, dict.fromkeys(TITLES[part], 0), list[str]()

    def add(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount

    def fault(self, name: str, line: str) -> None:
        """Count a fault and keep its line."""
        self.add(name)
        self.faults.append(f"{name}: {line}")

    def is_good(self) -> bool:
        return not any(self.counts[name] for name in FAULTS[self.part])


def print_tally(tally: Tally) -> None:
    """Print the counts as a table, and the first faults."""
    for name, title in TITLES[tally.part].items():
        print(f"{tally.counts[name]:>9,}  {title}")
    for line in tally.faults[:MOST_FAULTS]:
        print(f"FAULT {line}")
    if len(tally.faults) > MOST_FAULTS:
        print(f"... and {len(tally.faults) - MOST_FAULTS} more")


MOST_FAULTS = 10


def add_to_record(path: Path, tally: Tally, seed: int) -> None:
    """Add the counts of a storm to a record, which appears whole or not at all. Raises: ValueError if it is none."""
    entries = [*read_record(path), describe_storm(tally, seed)]
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read_record(path: Path) -> list[dict[str, Any]]:
    """The storms of a record; none if there is no such file. Raises: ValueError if it is no record."""
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        known = all(set(entry["counts"]) <= set(TITLES[entry["part"]]) for entry in entries)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no record of storms ({error})") from error
    if not known:
        raise ValueError(f"{path}: has counts this version does not know")
    return entries


def describe_storm(tally: Tally, seed: int) -> dict[str, Any]:
    """What is kept of one storm."""
    return {
        "part": tally.part,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": program_version(),
        "machine": {
            "processor": processor_name(),
            "cores": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "seed": seed,
        "counts": tally.counts,
        "faults": tally.faults[:MOST_FAULTS],
    }


def program_version() -> str:
    """The commit of the repository, with "+" if files differ from it; "" without git."""
    answers = []
    for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "*.py"]):
        try:
            done = subprocess.run(["git", "-C", REPOSITORY, *command], capture_output=True, text=True)
        except FileNotFoundError:
            return ""
        answers.append(done.stdout.strip())
    return answers[0] + ("+" if answers[1] else "")


def processor_name() -> str:
    """The model of the processor as the system names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def totals_table(entries: Iterable[dict[str, Any]]) -> str:
    """Sums over all storms of a record, as the Markdown table of docs/reliability.md."""
    sums = {part: dict.fromkeys(titles, 0) for part, titles in TITLES.items()}
    storms = dict.fromkeys(TITLES, 0)
    for entry in entries:
        storms[entry["part"]] += 1
        for name, count in entry["counts"].items():
            sums[entry["part"]][name] += count
    lines = ["| storm | what | count |", "|---|---|---:|"]
    for part, titles in TITLES.items():
        lines.append(f"| {part} | storms | {storms[part]:,} |")
        lines += [f"| {part} | {title} | {sums[part][name]:,} |" for name, title in titles.items()]
    return "\n".join(lines)
