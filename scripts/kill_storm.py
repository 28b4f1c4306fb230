# SPDX-License-Identifier: Apache-2.0
"""Kill the program at any instant, and count what is lost: nothing may be.

    python3 scripts/kill_storm.py writer [--writes 4] [--kills 1000] [--seed 0] [--json FILE]
    python3 scripts/kill_storm.py runs   [--runs 4] [--kills 10] [--seed 0] [--json FILE]
    python3 scripts/kill_storm.py totals [--json FILE]

writer: a process writes checkpoints, and is stopped before and after each system call. At every stop there must be a
whole checkpoint under the final name, and resume = "auto" must take it; at some the process is really killed. Where
ptrace is not permitted, the processes are killed at random times instead.
runs: whole training runs are killed with all their processes, and restarted until they end; their last checkpoint and
weights must be, bit for bit, those of a run that nobody interrupts.
--json adds the counts to a record, docs/reliability.json being that of the repository; totals sums it as a table.
Exit status 1 if anything was lost. Linux only.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import sys
import tempfile
from pathlib import Path

from shared.command_line import OneLineParser
from storms.record import RECORD, Tally, add_to_record, print_tally, read_record, totals_table
from storms.runs import storm_runs
from storms.writer import storm_writer
from utils import user_errors


def main() -> int:
    arguments = parse_arguments()
    if arguments.part == "totals":
        print(totals_table(read_record(arguments.json or RECORD)))
        return 0
    if arguments.json:
        read_record(arguments.json)  # fails now, not after the storm
    with tempfile.TemporaryDirectory(prefix="kill_storm_") as folder:
        tally = run_part(arguments, Path(folder).resolve())
    print_tally(tally)
    if arguments.json:
        add_to_record(arguments.json, tally, arguments.seed)
    return 0 if tally.is_good() else 1


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True, parser_class=OneLineParser)
    writer = parts.add_parser("writer", help="the checkpoint writer, system call by system call")
    writer.add_argument("--writes", type=positive, default=4, help="writes to follow (default 4)")
    writer.add_argument("--kills", type=positive, default=1000, help="writers to kill (default 1000)")
    runs = parts.add_parser("runs", help="whole training runs")
    runs.add_argument("--runs", type=positive, default=4, help="runs (default 4)")
    runs.add_argument("--kills", type=positive, default=10, help="kills of each run, at most (default 10)")
    runs.add_argument("--epochs", type=positive, default=30, help="epochs of each run (default 30)")
    runs.add_argument("--images", type=positive, default=40, help="training images of each class (default 40)")
    runs.add_argument("--spread", type=float, default=3.0, help="seconds over which kills are spread (default 3)")
    totals = parts.add_parser("totals", help="the sums over a record")
    for part in (writer, runs):
        part.add_argument("--seed", type=int, default=0, help="chooses the moments of the kills (default 0)")
    for part in (writer, runs, totals):
        part.add_argument("--json", type=Path, help="the record to add to, or to sum")
    return parser.parse_args()


def positive(text: str) -> int:
    """An int >= 1. Raises: ValueError."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def run_part(arguments: argparse.Namespace, folder: Path) -> Tally:
    if arguments.part == "writer":
        return storm_writer(folder, arguments.writes, arguments.kills, arguments.seed)
    return storm_runs(
        folder,
        runs=arguments.runs,
        kills=arguments.kills,
        seed=arguments.seed,
        epochs=arguments.epochs,
        images_per_class=arguments.images,
        spread=arguments.spread,
    )


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
