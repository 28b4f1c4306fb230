# SPDX-License-Identifier: Apache-2.0
"""The image files of a dataset in whatever layout, and what was found in each."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable

import numpy as np

from checking.report import Report
from core.plurals import counted


class ImageFiles(ABC):
    """The findings of `count` images in numpy arrays: 24 bytes each. path() is the layout's."""

    def __init__(self, count: int) -> None:
        self.sizes = np.zeros((count, 2), dtype=np.int32)  # width, height; 0 if it does not load
        self.digests = np.zeros((count, 2), dtype=np.uint64)
        self.modes: Counter[str] = Counter()
        self.num_turned = 0

    def __len__(self) -> int:
        return len(self.sizes)

    @abstractmethod
    def path(self, index: int | np.intp) -> str:
        """The file of one image."""

    def is_readable(self) -> np.ndarray:
        """bool [images]."""
        return self.sizes[:, 0] > 0

    def list_unreadable(self) -> Iterable[str]:
        """The paths for --list."""
        return (self.path(index) for index in np.flatnonzero(~self.is_readable()))

    def equal_files(self) -> list[np.ndarray]:
        """The readable images of one content, for each content that several have; in the order of the images."""
        readable = np.flatnonzero(self.is_readable())
        order = readable[np.lexsort((readable, *self.digests[readable].T))]
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (self.digests[order[1:]] != self.digests[order[:-1]]).any(axis=1)
        bounds = np.append(np.flatnonzero(is_first), len(order))
        groups = [order[bounds[k] : bounds[k + 1]] for k in np.flatnonzero(np.diff(bounds) > 1)]
        return sorted(groups, key=lambda group: group[0])

    def show_equal(self, group: np.ndarray) -> str:
        """The paths of files of one content in a line."""
        names = " = ".join(self.path(index) for index in group[:4])
        return names + (f" and {len(group) - 4} more" if len(group) > 4 else "")

    @abstractmethod
    def report_duplicates(self, report: Report) -> None:
        """Warn of equal files that make a score wrong; count the rest."""

    @abstractmethod
    def report_statistics(self, report: Report) -> None:
        """Images and classes of each split, sizes, kinds."""

    def report_pixels(self, report: Report) -> None:
        """Sizes and kinds of all images."""
        sizes = self.sizes[self.is_readable()]
        if len(sizes):
            sides = {"width": sizes[:, 0], "height": sizes[:, 1], "shortest side": sizes.min(axis=1)}
            spans = [f"{side} {v.min()} to {v.max()} (median {np.median(v):.0f})" for side, v in sides.items()]
            report.say(f"pixels: {', '.join(spans)}")
            modes = ", ".join(f"{mode} {count}" for mode, count in sorted(self.modes.items()))
            report.say(f"kinds: {modes}; {self.num_turned} with a camera orientation other than upright")


def report_copies(groups: list[np.ndarray], report: Report) -> None:
    """Count the files of equal_files() beyond the first of each content."""
    copies = sum(len(group) - 1 for group in groups)
    if copies:
        report.say(f"copies: {counted(copies, 'file has', 'files have')} the content of another one")


def describe_balance(counts: dict[str, int]) -> str:
    """The class with the fewest and the one with the most."""
    small, large = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    ratio = f", {counts[large] / counts[small]:.1f} times as many" if counts[small] else ""
    return f"smallest {small} ({counts[small]}), largest {large} ({counts[large]}{ratio})"


def list_of_names(paths: Iterable[str]) -> bytes:
    """Paths one a line, each byte as in the file system but for backslash and newline."""
    return b"".join(os.fsencode(path).replace(b"\\", b"\\\\").replace(b"\n", b"\\n") + b"\n" for path in paths)
