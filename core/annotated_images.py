# SPDX-License-Identifier: Apache-2.0
"""Pictures with objects in them, whatever files tell of these: boxes, classes and masks, and what was left out."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from core.folders import shorten
from core.image_files import check_claims, image_kind, load_image, read_size
from core.pixels import Image
from core.plurals import counted

Answer = TypeVar("Answer")
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels; x1 and y1 exclusive

IGNORED = 255  # of a mask: pixels that count neither in a loss nor in a score
MAX_CLASSES = 254  # that a mask can hold beside the background and IGNORED
THREADS = 8  # that wait for the disk
HEADER_BYTES = 2**16  # of a JPEG, in which its size stands but for a long comment before it
LEAST_SIDE = 0.01  # pixels; far less is lost in float32
LINES_OF_KIND = 3
LOST = "left out"
UNREADABLE = "an image that cannot be read"
NOT_FINITE = "a box whose coordinates are not all numbers"
NO_AREA, OUTSIDE, REACHES_OUT = "a box without an area", "a box outside of its image", "a box that reaches out"
SHARES = "all within the first pixel of their images, as shares of the sides would be; write them in pixels"
LARGEST_SHARE = 1.001  # with what rounding adds


class Objects(NamedTuple):
    """The N objects of an image."""

    boxes: np.ndarray  # float32 [N, 4]: x0, y0, x1, y1 in pixels, inside the image; x1 and y1 exclusive
    labels: np.ndarray  # int64 [N]: the places of their classes, from 0
    ignored: np.ndarray  # bool [N]: neither to be found nor to be missed, "difficult" or "iscrowd"


class Annotated(NamedTuple):
    """An image with what is known of it."""

    image: Image  # uint8 [H, W, 3], RGB
    boxes: np.ndarray  # these three as in Objects; empty where only the masks of a folder are read
    labels: np.ndarray
    ignored: np.ndarray
    mask: np.ndarray | None  # uint8 [H, W]: 0 background, 1 + class, IGNORED; None unless asked for


class Line(NamedTuple):
    """One thing that is not taken, or not as it stands there."""

    kind: str  # what its like is counted as
    path: str  # the file that it is in
    text: str
    is_lost: bool  # nothing of it is taken


class LeftOut:
    """What is not taken of a folder, a line for each thing, and the unknown classes."""

    def __init__(self, root: str) -> None:
        self.root, self.lines = root, list[Line]()
        self.classes: dict[str, list[str]] = {}  # unknown ones: the files of their objects

    def add(self, path: str, kind: str, value: object = "", done: str = LOST) -> None:
        """One thing in a file; `kind`: what its like is counted as, `value`: what stands there."""
        shown = f" ({shorten([str(value)[:100]])})" if value != "" else ""
        self.lines.append(Line(kind, path, f"{shorten([path])}: {kind}{shown}; {done}", done == LOST))

    def add_class(self, path: str, name: str) -> None:
        """An object of an unknown class."""
        self.classes.setdefault(name[:100], []).append(path)

    def class_lines(self) -> list[str]:
        """A line for each unknown class."""
        lines = []
        for name, paths in self.classes.items():
            count = f"{counted(len(paths), 'object')}, the first in {shorten(paths[:1])}"
            lines.append(f"{self.root}: unknown class {name!r} ({count}); left out")
        return lines

    def why_none_is_left(self, otherwise: str) -> str:
        """The first line of the commonest kind, for an error; what to say if there is no line."""
        counts = Counter(line.kind for line in self.lines)
        kind, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
        of_unknown = sum(map(len, self.classes.values()))
        if of_unknown > count:
            return f"{self.class_lines()[0]}; correct the files"
        if not count:
            return otherwise
        first = next(line.text for line in self.lines if line.kind == kind)
        return f"{first}{f' ({count - 1} more like it)' if count > 1 else ''}; correct the files"

    def notes(self) -> list[str]:
        """The first lines of each kind, and how many more there are."""
        notes, counts = [], Counter[str]()
        for line in self.lines:
            counts[line.kind] += 1
            if counts[line.kind] <= LINES_OF_KIND:
                notes.append(line.text)
        notes += self.class_lines()[:LINES_OF_KIND]
        counts["an unknown class"] = len(self.classes)
        more = {kind: count - LINES_OF_KIND for kind, count in counts.items()}
        return notes + [f"{self.root}: {count} more: {kind}" for kind, count in more.items() if count > 0]


class AnnotatedImages:
    """source[index] -> Annotated, for an index of 0 .. len(source) - 1; the image is read when it is asked for.

    `root`: the folder and split in messages. `classes`: their names, without the background. `notes`: lines that people
    should see before a training; `left_out`: each thing that they are about. `most_objects`: in one image.
    `has_crowds`: whether what is ignored are crowds. `remedy`: for other classes than were asked for.
    Names and boxes lie in a few arrays, which forked loader workers share.
    Raises: ValueError naming the file if an image cannot be read, or is no longer what its annotations were read for.
    """

    has_crowds = False
    is_endless = False
    remedy = "correct data_dir"

    def __init__(
        self,
        root: str,
        classes: Sequence[str],
        files: Sequence[str],
        sizes: Sequence[tuple[int, int]],  # height, width
        objects: Sequence[Objects],
    ) -> None:
        names = [os.fsencode(file) for file in files]
        self.root, self.classes, self.notes = root, list(classes), list[str]()
        self.left_out = LeftOut(root)
        self.names = np.frombuffer(b"".join(names), np.uint8)
        self.name_ends = np.cumsum([0, *map(len, names)])
        self.sizes = np.array(sizes, np.int32).reshape(-1, 2)
        self.objects = join_objects(objects)
        counts = [len(each.labels) for each in objects]
        self.object_ends, self.most_objects = np.cumsum([0, *counts]), max(counts, default=0)

    def __len__(self) -> int:
        return len(self.name_ends) - 1

    def path(self, index: int) -> str:
        """The file of one image."""
        return os.fsdecode(self.names[self.name_ends[index] : self.name_ends[index + 1]].tobytes())

    def __getitem__(self, index: int) -> Annotated:
        if not 0 <= index < len(self):  # an IndexError ends a loop over the images
            raise IndexError(f"image {index} of {len(self)}")
        image, (height, width) = load_image(self.path(index)), self.sizes[index]
        if image.shape[:2] != (height, width):
            is_now = f"{image.shape[1]} x {image.shape[0]} pixels"
            raise ValueError(f"{self.path(index)}: {is_now}, and {width} x {height} when the run began; start it again")
        place = slice(self.object_ends[index], self.object_ends[index + 1])
        boxes, labels, ignored = (values[place].copy() for values in self.objects)
        return Annotated(image, boxes, labels, ignored, self.read_mask(index, image))

    def read_mask(self, index: int, image: Image) -> np.ndarray | None:
        """The mask of an image, where masks were asked for."""
        return None

    def class_counts(self) -> np.ndarray:
        """The objects of each class in each image, int [N, C]; of masks as many as the files tell apart, if any."""
        counts = np.zeros((len(self), len(self.classes)), np.int32)
        images = np.repeat(np.arange(len(self)), np.diff(self.object_ends))
        np.add.at(counts, (images, self.objects.labels), 1)
        return counts


def pack_objects(boxes: Sequence[Box], labels: Sequence[int], ignored: Sequence[bool]) -> Objects:
    """Arrays of the objects of an image, of none too."""
    return Objects(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(ignored, bool))


def join_objects(objects: Sequence[Objects]) -> Objects:
    """The objects of all images, one after the other."""
    columns = zip(pack_objects([], [], []), *objects, strict=True)
    return Objects(*(np.concatenate(column) for column in columns))


def clip_box(box: Box, size: tuple[int, int], path: str, left_out: LeftOut, in_file: Box | None = None) -> Box | None:
    """The part of a box inside an image of `size` (height, width); None, noted, where there is none.

    `in_file`: the numbers to show, if those of the file are others.
    """
    height, width = size
    shown = ", ".join(f"{value:.6g}" for value in in_file or box)
    x0, y0, x1, y1 = box
    clipped = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if not all(map(math.isfinite, box)):
        left_out.add(path, NOT_FINITE, shown)
        return None
    if not has_area(box):
        left_out.add(path, NO_AREA, shown)
        return None
    if not has_area(clipped):
        left_out.add(path, OUTSIDE, f"{shown} in {width} x {height} pixels")
        return None
    if max(abs(first - second) for first, second in zip(box, clipped, strict=True)) > 1:  # one: counted from 0, not 1
        left_out.add(path, REACHES_OUT, f"{shown} in {width} x {height} pixels", "clipped")
    return clipped


def has_area(box: Box) -> bool:
    return box[2] - box[0] >= LEAST_SIDE and box[3] - box[1] >= LEAST_SIDE


def in_threads(work: Callable[[str], Answer], paths: Iterable[str]) -> list[Answer | str]:
    """The answer for each file in order, or the words in which it was refused."""

    def answer(path: str) -> Answer | str:
        try:
            return work(path)
        except OSError as error:
            return error.strerror or str(error)
        except ValueError as error:
            return str(error).removeprefix(f"{path}: ")

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(answer, paths))


def header_size(path: str) -> tuple[int, int]:
    """As read_size(), height and width; of a JPEG mostly from its first bytes. Raises: as it does."""
    if Path(path).is_file():
        data = np.fromfile(path, np.uint8, count=HEADER_BYTES)
        if image_kind(data) == "JPEG":
            try:
                width, height = check_claims(data, path)
                return height, width
            except ValueError:
                pass  # read_size() says what is wrong, if anything is
    return read_size(path)


def choose_classes(
    found: Sequence[str], expected: Sequence[str] | None, root: str, masks: bool, remedy: str = "correct their names"
) -> list[str]:
    """The classes of a folder in the order of `expected`, those of the training. Raises: ValueError if they differ."""
    if len(set(found)) < len(found):
        twice = [name for name, count in Counter(found).items() if count > 1]
        raise ValueError(f"{root}: two classes have one name, {shorten(twice)}; rename one")
    if not found or (masks and len(found) > MAX_CLASSES):
        raise ValueError(f"{root}: {len(found)} classes; it takes 1, and for masks at most {MAX_CLASSES}")
    if expected is not None and set(found) != set(expected):
        missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        raise ValueError(
            f"{root}: its classes are not those of the training: missing {shorten(missing) or 'none'}, unknown "
            f"{shorten(unknown) or 'none'} ({len(missing)} and {len(unknown)} in all); {remedy}"
        )
    return list(found if expected is None else expected)


def is_background(name: str) -> bool:
    """Whether a folder lists the background among its classes, as tools write it: it is none of them."""
    return name.strip("_").lower() == "background"


def finish(source: AnnotatedImages, left_out: LeftOut, masks: bool, of_images: str, of_classes: str) -> None:
    """Give a source its notes. Raises: ValueError, with a reason or a remedy, if there is nothing to train on.

    of_images, of_classes: the remedies where no image is left, and where all objects are of unknown classes.
    """
    notes, source.left_out = left_out.notes(), left_out
    empty = int((np.diff(source.object_ends) == 0).sum())
    if not len(source):
        raise ValueError(f"{notes[0] if notes else source.root}; no image is left in {source.root}; {of_images}")
    if empty == len(source) and not masks:
        unknown = f", but of {shorten(sorted(left_out.classes))}" if left_out.classes else ""
        reason = of_classes if unknown else left_out.why_none_is_left("its files have none: label its images")
        raise ValueError(f"{source.root}: no object of {shorten(source.classes)} is left{unknown}; {reason}")
    if len(source.objects.boxes) and source.objects.boxes.max() <= LARGEST_SHARE:
        raise ValueError(f"{source.root}: its boxes are {SHARES}")
    if empty and not masks:
        share = f"of {len(source)} images"
        notes.append(f"{source.root}: {counted(empty, f'{share} has', f'{share} have')} no object")
    source.notes += notes
