# SPDX-License-Identifier: Apache-2.0
"""What check_dataset.py found, and how it is printed."""

from collections import Counter

from shared.command_line import printable

SHOWN = 20  # of each kind of finding; the rest is counted


class Report:
    """Gathers what is found; of each kind the first SHOWN lines, and the number of all."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.facts: list[str] = []
        self.problems: dict[str, list[str]] = {}
        self.warnings: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()

    def say(self, line: str) -> None:
        self.facts.append(line)

    def problem(self, kind: str, line: str) -> None:
        """Something that makes training fail."""
        self._note(self.problems, kind, line)

    def warning(self, kind: str, line: str) -> None:
        """Something that training gets over."""
        self._note(self.warnings, kind, line)

    def _note(self, table: dict[str, list[str]], kind: str, line: str) -> None:
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
                print(f"{label}: {self.counts[kind]} {kind}")
                for line in lines:
                    print(f"    {printable(line)}")
                if self.counts[kind] > SHOWN:
                    print(f"    and {self.counts[kind] - SHOWN} more")
        bad = self.counts["unreadable images"]
        if bad:
            print(
                "To go on: replace or remove the unreadable images (--list FILE writes their paths), and check again."
            )
        verdict = "training would fail" if self.problems else "training works"
        warned = sum(self.counts[kind] for kind in self.warnings)
        print(f"{printable(self.folder)}: {num_images} images, {bad} unreadable, {warned} warnings; {verdict}.")
        return 1 if self.problems else 0
