# SPDX-License-Identifier: Apache-2.0
"""The images of a folder with boxes or masks, in its splits, and what cannot be used of them."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from checking.images import ImageFiles, describe_balance, report_copies
from checking.report import Kind, Report
from core.annotated_folders import open_source
from core.annotated_images import UNREADABLE, AnnotatedImages, Line
from core.folders import shorten
from core.plurals import counted
from core.voc_folders import VocImages

SHARED = Kind(
    "file",
    "files",
    " in two splits: a score on one will look better than it is after training on the other",
    "take each file out of all splits but one",
)
UNUSABLE = Kind(
    "split",
    "splits",
    " that cannot be used",
    "do what the lines about splits say and check again, or name other splits in config.py of the task",
)
LEFT_OUT = "training does without what is left out; to have it, correct the files that the lines name, and check again"
UNKNOWN_CLASSES = Kind("unknown class", "unknown classes", remedy=LEFT_OUT)
UNKNOWN_IN_VOC = UNKNOWN_CLASSES._replace(
    remedy="correct the unknown classes where they are misspelt; to train on one, name all classes in classes.txt"
)
WITHOUT_CLASSES = Kind("split", "splits", " without some of the classes")


class Part(NamedTuple):
    """A split with its boxes, or with its masks."""

    split: str
    masks: bool
    source: AnnotatedImages
    images: np.ndarray  # int64: the places of its images in the inventory
    of_class: dict[str, int]  # objects; with masks images, for these do not tell objects apart
    num_empty: int  # images without an object

    @property
    def name(self) -> str:
        """As the report calls it."""
        return f"{self.split}, {'masks' if self.masks else 'boxes'}"


class AnnotatedInventory(ImageFiles):
    """Each image once, however many splits have it; opening them reads all annotations, and each file of a mask."""

    def __init__(self, folder: str, contents: Sequence[tuple[str, bool]], report: Report) -> None:
        self.parts: list[Part] = []
        places: dict[str, int] = {}
        errors: dict[str, None] = {}  # once each: boxes and masks of a file often fail alike
        for split, masks in contents:
            classes = self.parts[0].source.classes if self.parts else None  # of what is called train, if there is any
            try:
                source = open_source(folder, split, masks=masks, classes=classes)
            except (OSError, ValueError) as failure:
                errors[str(failure)] = None
                continue
            paths = (source.path(index) for index in range(len(source)))
            images = np.array([places.setdefault(path, len(places)) for path in paths])
            self.parts.append(Part(split, masks, source, images, *count_objects(source, masks)))
        for error in errors:
            report.problem(UNUSABLE, error)
        self.paths = list(places)
        super().__init__(len(self.paths))
        self._report_classes(report)
        self._report_left_out(report)

    def path(self, index: int | np.intp) -> str:
        """The file of one image."""
        return self.paths[index]

    def list_unreadable(self) -> Iterable[str]:
        """The paths for --list: also of those left out for their beginning, but not of what is missing."""
        lines = [line for part in self.parts for line in part.source.left_out.lines]
        left_out = dict.fromkeys(line.path for line in lines if line.kind == UNREADABLE and os.path.lexists(line.path))
        return [*super().list_unreadable(), *left_out]

    def _report_classes(self, report: Report) -> None:
        """Name classes that have nothing in a split."""
        for part in self.parts:
            missing = [name for name, count in part.of_class.items() if not count]
            if missing:
                report.warning(WITHOUT_CLASSES, f"{part.name}: {len(missing)}, {shorten(missing)}")

    def _report_left_out(self, report: Report) -> None:
        """Each thing once that the splits leave out, though several may have its image."""
        lines: Counter[Line] = Counter()
        classes: dict[str, None] = {}
        for part in self.parts:
            lines |= Counter(part.source.left_out.lines)
            classes |= dict.fromkeys(part.source.left_out.class_lines())
        lost = {line.kind for line in lines if line.is_lost}  # of one kind some may be, and others not
        for line in lines.elements():
            report.warning(Kind("time", "times", f" {line.kind}", LEFT_OUT if line.kind in lost else ""), line.text)
        is_voc = any(isinstance(part.source, VocImages) for part in self.parts)
        for of_class in classes:
            report.warning(UNKNOWN_IN_VOC if is_voc else UNKNOWN_CLASSES, of_class)

    def report_duplicates(self, report: Report) -> None:
        """Warn of equal files, or one file, in two splits; count the files that are copies."""
        groups = self.equal_files()
        report_copies(groups, report)
        splits = self._splits_of_images()
        copied = {index for group in groups for index in group.tolist()}
        groups += [np.array([index]) for index, of in splits.items() if len(of) > 1 and index not in copied]
        lines: dict[str, None] = {}  # once each: boxes and masks of a file have the same images
        for group in sorted(groups, key=lambda group: group[0]):
            for masks in (False, True):
                found = {n: [split for of, split in splits.get(n, ()) if of == masks] for n in group.tolist()}
                names = sorted({split for each in found.values() for split in each})
                if len(names) > 1:
                    inside = np.array([index for index in group if found[index]])
                    lines[f"{self.show_equal(inside)}: in {', '.join(names)}"] = None
        for line in lines:
            report.warning(SHARED, line)

    def _splits_of_images(self) -> dict[int, list[tuple[bool, str]]]:
        """The splits that have an image. Those that others make up, as train and val make up trainval, are none."""
        splits: defaultdict[int, list[tuple[bool, str]]] = defaultdict(list)
        sets = [(part, frozenset(part.images.tolist())) for part in self.parts]
        for part, images in sets:
            within = [other for of, other in sets if of.masks == part.masks and other < images]
            if frozenset().union(*within) != images:
                for index in images:
                    splits[index].append((part.masks, part.split))
        return splits

    def report_statistics(self, report: Report) -> None:
        """Images, objects and classes of each split, sizes, kinds."""
        for part in self.parts:
            objects = "counted by images" if part.masks else counted(sum(part.of_class.values()), "object")
            images, classes = counted(len(part.images), "image"), counted(len(part.of_class), "class", "classes")
            report.say(
                f"{part.name}: {images}, {part.num_empty} without an object; {classes}, {objects}; "
                f"{describe_balance(part.of_class)}"
            )
        self.report_pixels(report)


def count_objects(source: AnnotatedImages, masks: bool) -> tuple[dict[str, int], int]:
    """of_class and num_empty of a part."""
    counts = source.class_counts()
    totals = np.count_nonzero(counts, axis=0) if masks else counts.sum(axis=0)
    num_empty = len(counts) - int(np.count_nonzero(counts.any(axis=1)))
    return dict(zip(source.classes, totals.tolist(), strict=True)), num_empty
