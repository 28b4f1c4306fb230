# SPDX-License-Identifier: Apache-2.0
"""How fast this program is beside what people use today: the same work, in alternating runs.

    python3 scripts/benchmark.py PART|all [--images FOLDER ...] [--plot]
    python3 scripts/benchmark.py compare OLD.json

model       the forward pass on random images
train       training steps on random images
tasks       the same of detection and segmentation, on the CPU
loader      images from files to batches
end-to-end  test.py and train.py as whole processes
latency     one image in a running process; inference.py from start to end, train.py from start to its first step
memory      the peak of train.py, and the largest batch within 8 GiB
busy        train.py while another program keeps one core busy: an hour, and no part of all
padding     TensorFlow's padding beside the symmetric one
export      what scripts/export.py writes, in its runtimes
fine-tuning train.py with frozen blocks beside the loop of PyTorch's tutorial: an hour, and no part of all
Figures marked * are this program's; the ratio says how many times as fast as the baseline, the first line, they are.
Writes results/benchmark.json; --plot draws results/benchmark.png. What is not installed is left out, and a line says
so; `make bench` installs it all. `compare` prints which ratios are others than in an earlier report, beyond their
spread in both; its status is 1 if one is lower.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from core.atomic_files import write_atomically
from measuring.comparing import compare
from measuring.timing import ROUNDS, Comparison, machine
from shared.command_line import REPOSITORY, OneLineParser
from utils import setup_runtime, user_errors

REPORT = REPOSITORY / "results/benchmark.json"
PLOT = REPOSITORY / "results/benchmark.png"
PARTS = {  # with the function of measuring/ that measures each
    "model": ("forward_pass", "model"),
    "train": ("training_steps", "train"),
    "tasks": ("task_steps", "tasks"),
    "loader": ("loader", "loader"),
    "end-to-end": ("whole_runs", "end_to_end"),
    "latency": ("forward_pass", "latency"),
    "memory": ("memory", "memory"),
    "busy": ("contention", "busy"),
    "padding": ("paddings", "padding"),
    "export": ("exports", "export"),
    "fine-tuning": ("fine_tuning", "fine_tuning"),
}

LONG_PARTS = "fine-tuning", "busy"  # an hour each


def main() -> int:
    options = parse_arguments()
    if options.part == "compare":
        return compare(options.old, REPORT)
    if options.part == "all":
        REPORT.unlink(missing_ok=True)
        for part in PARTS:
            if part not in LONG_PARTS:
                measure_in_own_process(part)
    else:
        measure(options)
    print(f"\nReport: {REPORT.relative_to(REPOSITORY)}")
    if options.plot:
        plot(read_report()["parts"])
    return 0


def measure_in_own_process(part: str) -> None:
    """Measure one part. After a fork, a process with the threads of ONNX Runtime or OpenVINO in it crashes.

    Raises: SystemExit with its status if it fails.
    """
    arguments = [part if argument == "all" else argument for argument in sys.argv[1:] if argument != "--plot"]
    status = subprocess.run([sys.executable, __file__, *arguments]).returncode
    if status:
        sys.exit(status)


def measure(options: argparse.Namespace) -> None:
    """Measure one part; its comparisons take the place of those in the report as they come."""
    setup_runtime(0, "cpu")
    print_machine(described := machine())
    found: list[dict[str, object]] = []
    for comparison in measure_part(options.part)(options):
        print(f"\n{comparison.table()}", flush=True)
        found.append(comparison.record())
        report = read_report()
        others = report["parts"] if report.get("machine") == described else {}  # of another machine they say nothing
        write_report({"machine": described, "parts": others | {options.part: found}})


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*PARTS, "all", "compare"]
    parser.add_argument("part", choices=names, metavar="PART", help=", ".join(names))
    parser.add_argument("old", nargs="?", type=Path, metavar="OLD.json", help="the report that compare begins with")
    parser.add_argument(
        "--images", nargs="+", type=Path, default=[], metavar="FOLDER", help="folders of <class>/<image> to read"
    )
    parser.add_argument("--rounds", type=at_least_5, default=ROUNDS, help=f"runs of each candidate (default {ROUNDS})")
    parser.add_argument("--workers", type=int, default=2, help="loader workers (default 2)")
    parser.add_argument("--epochs", type=int, default=20, help="of fine-tuning (default 20)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights that end-to-end scores (default: random)")
    parser.add_argument(
        "--reference-evaluation",
        type=Path,
        metavar="SCRIPT",
        help="run as SCRIPT WEIGHTS FOLDER beside test.py",
    )
    parser.add_argument("--plot", action="store_true", help="draw results/benchmark.png; needs matplotlib")
    options = parser.parse_args()
    if (options.part == "compare") != (options.old is not None):
        parser.error("compare takes the report of an earlier run, and nothing else does: compare OLD.json")
    return options


def at_least_5(text: str) -> int:
    number = int(text)
    if number < 5:
        raise argparse.ArgumentTypeError(f"{number}: a median needs at least 5 runs")
    return number


def measure_part(part: str) -> Callable[[argparse.Namespace], Iterable[Comparison]]:
    """The function that measures a part; only its module is imported."""
    module, function = PARTS[part]
    return getattr(importlib.import_module(f"measuring.{module}"), function)


def print_machine(described: dict[str, object]) -> None:
    for name, value in described.items():
        print(f"{name}: {value}")


def read_report() -> dict[str, Any]:
    """The report so far; empty if there is none."""
    return json.loads(REPORT.read_text()) if REPORT.exists() else {}


def write_report(report: dict[str, object]) -> None:
    REPORT.parent.mkdir(exist_ok=True)
    write_atomically(REPORT, lambda file: file.write(f"{json.dumps(report, indent=2)}\n".encode()))


def plot(parts: dict[str, list[dict[str, Any]]]) -> None:
    """One bar a candidate, as long as its ratio to the baseline, 1.00 x. Raises: ValueError without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot: matplotlib is not installed; make bench installs it")
    from matplotlib.figure import Figure

    found = [record for several in parts.values() for record in several]
    figure = Figure(figsize=(11, 1 + 0.3 * sum(len(one["ratio"]) + 2 for one in found)), layout="constrained")
    heights = [len(one["ratio"]) + 1 for one in found]
    for axes, one in zip(figure.subplots(len(found), squeeze=False, height_ratios=heights)[:, 0], found, strict=True):
        names = list(one["ratio"])[::-1]
        colours = ["tab:orange" if name in one["ours"] else "tab:grey" for name in names]
        bars = axes.barh(names, [one["ratio"][name] for name in names], color=colours)
        axes.bar_label(bars, fmt="%.2f x", padding=2)
        axes.set_title(one["title"], loc="left", fontsize="medium")
        axes.margins(x=0.12)
    write_atomically(PLOT, lambda file: figure.savefig(file, format="png", dpi=120))
    print(f"Chart: {PLOT.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
