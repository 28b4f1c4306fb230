# SPDX-License-Identifier: Apache-2.0
"""What changed from one report of benchmark.py to another."""

import json
import statistics
from pathlib import Path
from typing import Any

from core.plurals import counted

Ratios = dict[tuple[str, str], list[float]]  # by comparison and candidate: one of each round


def compare(old: Path, new: Path) -> int:
    """Print the ratios whose spreads in the two reports do not meet; 1 if one of them is lower than it was.

    Ratios to a baseline of the same run, as seconds change with the hour. Raises: OSError, ValueError.
    """
    (before, old_machine), (after, new_machine) = read_ratios(old), read_ratios(new)
    for name in sorted(old_machine.keys() | new_machine.keys()):
        if old_machine.get(name) != new_machine.get(name):
            print(f"{name}: {old_machine.get(name)} then, {new_machine.get(name)} now")
    common = [key for key in after if key in before]
    changed = [key for key in common if is_lower(before[key], after[key]) or is_lower(after[key], before[key])]
    for title, name in changed:
        then, now = before[title, name], after[title, name]
        factor = statistics.median(now) / statistics.median(then)
        print(f"{title}: {name}: {show(then)} then, {show(now)} now, {factor:.2f} times as much")
    alone = len(after.keys() ^ before.keys())
    ratios, others = counted(len(common), "ratio"), counted(alone, "is", "are")
    print(f"{len(changed)} of {ratios} changed beyond their spread; {others} in one report only.")
    return int(any(is_lower(after[key], before[key]) for key in changed))


def is_lower(some: list[float], others: list[float]) -> bool:
    """Whether all are below all of the others, by more than the step to which a single value was found."""
    return max(some) < min(others) * (1.0 if len(some) > 1 else 1 - SINGLE)


SINGLE = 0.1


def read_ratios(path: Path) -> tuple[Ratios, dict[str, Any]]:
    """The ratios of a report, and its machine. Raises: OSError; ValueError if it is no report of benchmark.py."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        ratios = {
            (one["title"], name): [base / own for base, own in zip(one["times"][one["baseline"]], times, strict=True)]
            for part in report["parts"].values()
            for one in part
            for name, times in one["times"].items()
            if name != one["baseline"]
        }
        return ratios, dict(report["machine"])
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path}: is no report of scripts/benchmark.py; name a benchmark.json") from error


def show(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
