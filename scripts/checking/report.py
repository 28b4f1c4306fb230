# SPDX-License-Identifier: Apache-2.0
"""What check_dataset.py found, and how it is printed."""

from collections import Counter
from typing import NamedTuple

from core.plurals import counted
from shared.command_line import printable

SHOWN = 20  # of each kind of finding; the rest is counted


class Kind(NamedTuple):
    """What findings are called: one, several, and what follows on both; and what to do about them."""

    one: str
    several: str
    rest: str = ""
    remedy: str = ""  # "" where their lines say it, or nobody can


UNREADABLE_IMAGES = Kind(
    "unreadable image",
    "unreadable images",
    remedy="replace or remove the unreadable images (--list FILE writes their paths), and check again",
)


class Report:
    """Gathers what is found; of each kind the first SHOWN lines, and the number of all."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.facts: list[str] = []
        self.problems: dict[Kind, list[str]] = {}
        self.warnings: dict[Kind, list[str]] = {}
        self.counts: Counter[Kind] = Counter()

    def say(self, line: str) -> None:
        self.facts.append(line)

    def problem(self, kind: Kind, line: str) -> None:
        """Something that makes training fail."""
        self._note(self.problems, kind, line)

    def warning(self, kind: Kind, line: str) -> None:
        """Something that training gets over."""
        self._note(self.warnings, kind, line)

    def _note(self, table: dict[Kind, list[str]], kind: Kind, line: str) -> None:
        self.counts[kind] += 1
        lines = table.setdefault(kind, [])
        if len(lines) < SHOWN:
            lines.append(line)

    def print_all(self, num_images: int) -> int:
        """Print everything, the summary last; returns the exit status."""
        for fact in self.facts:
            print(printable(fact))
        for label, table in (("Warning", self.warnings), ("Problem", self.problems)):
            for kind, lines in table.items():
                print(f"{label}: {counted(self.counts[kind], kind.one, kind.several)}{kind.rest}")
                for line in lines:
                    print(f"    {printable(line)}")
                if self.counts[kind] > SHOWN:
                    print(f"    and {self.counts[kind] - SHOWN} more")
        for remedy in dict.fromkeys(kind.remedy for kind in (*self.problems, *self.warnings) if kind.remedy):
            print(f"To go on: {remedy}.")
        bad = self.counts[UNREADABLE_IMAGES]
        verdict = "training would fail" if self.problems else "training works"
        warned = sum(self.counts[kind] for kind in self.warnings)
        images, warnings = counted(num_images, "image"), counted(warned, "warning")
        print(f"{printable(self.folder)}: {images}, {bad} unreadable, {warnings}; {verdict}.")
        return 1 if self.problems else 0
