# SPDX-License-Identifier: Apache-2.0
"""scripts/measuring/timing.py: the order of the runs, and the figures worked out by hand."""

import os
from functools import partial

from measuring.timing import Comparison, alternate, in_own_process


def test_candidates_alternate_and_each_begins_a_round() -> None:
    calls = []
    times = alternate({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=5)
    rounds = ["".join(calls[start : start + 3]) for start in range(0, 18, 3)]
    assert rounds == ["cab", "abc", "bca", "cab", "abc", "bca"]  # the first is not counted
    assert {name: len(runs) for name, runs in times.items()} == {"a": 5, "b": 5, "c": 5}


def test_figures_and_ratios() -> None:
    times = {"theirs": [4.0, 4.0, 8.0, 4.0, 4.0], "ours": [2.0, 1.0, 2.0, 2.0, 2.0]}
    record = Comparison("work", ["ours"], "theirs", times, images=8).record()
    assert record["median"] == {"theirs": 2.0, "ours": 4.0}  # images a second
    assert record["ratio"] == {"theirs": 1.0, "ours": 2.0}
    comparison = Comparison("work", ["ours"], "theirs", times, images=8, unit="ms", missing=["x is not installed"])
    assert comparison.figures("ours") == [250.0, 125.0, 250.0, 250.0, 250.0]
    lines = comparison.table().splitlines()
    assert "2.00 x (2.00 to 4.00)" in lines[2] and lines[2].startswith(" * ours")
    assert lines[3].strip() == "x is not installed"


def test_action_in_a_process_of_its_own() -> None:
    action = in_own_process(partial, os.getpid)
    first, second = action(), action()
    assert first == second != os.getpid()
