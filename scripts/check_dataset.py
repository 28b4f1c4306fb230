# SPDX-License-Identifier: Apache-2.0
"""Decode every image of a dataset and say what would stop training, or spoil its result, before it costs a night.

    python3 scripts/check_dataset.py data/Flowers [--list bad.txt]

FOLDER holds train/ and valid/ (or ILSVRC2012_img_train and ILSVRC2012_img_val), or is one folder of class folders.
Exit status 0: training works, though there may be warnings; 1: it would fail; 2: the command is wrong.
"""

from command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import ast
import functools
import hashlib
import io
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

import folder_layouts
from command_line import REPOSITORY, OneLineParser, config_assignments, printable

sys.path.insert(0, str(REPOSITORY))

from core.atomic_files import write_atomically
from core.folders import list_classes, list_images
from core.image_files import decode_image, image_kind, read_orientation
from core.image_names import IMAGE_SUFFIXES, describe_left_out, is_left_out, kind_of_name
from utils import user_errors

SPLIT_FOLDERS = {"train": ("train", "ILSVRC2012_img_train"), "valid": ("valid", "ILSVRC2012_img_val")}
KIND_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WebP": (".webp",),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
}
CHUNK_IMAGES = 32  # sent to a worker at once: large enough that sending costs nothing, small enough to stop soon
SHOWN = 20  # of each kind of finding; the rest is counted
TURNED = (
    "photos that the camera noted as turned, which training takes as they are stored: set apply_orientation = True in "
    "config.py, or let prepare_dataset.py folder turn them"
)
NO_CLASSES = "folders that may be no classes; prepare_dataset.py folder --source FOLDER arranges what it understands"
OPENCV_PREFIX = re.compile(r"^\[ *\w+:\d+@[\d.]+\] \S+ \S+ \S+ ")  # with the time, so that no two runs are the same
KILLED = "the process that decoded it was killed, for lack of memory or by a defect of the decoder; remove the file"


class Finding(NamedTuple):
    """What a worker found in one image file."""

    error: str  # empty if it loads
    complaint: str = ""  # what the decoder said, though it gave a picture
    kind: str = ""  # of the content: a key of KIND_SUFFIXES
    mode: str = ""  # Pillow's name: RGB, L, CMYK, ...
    orientation: int = 1  # as the camera noted it; 1 is upright
    is_single_colour: bool = False
    width: int = 0
    height: int = 0
    digest: bytes = b"\0" * 16


def main() -> int:
    arguments = parse_arguments()
    try:
        return check_dataset(arguments)
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        os._exit(130)  # the workers end with this process; waiting for them could take as long as an image does


def check_dataset(arguments: argparse.Namespace) -> int:
    """Check everything and print the report; returns the exit status."""
    report = Report(str(arguments.folder))
    dataset = Inventory(find_splits(arguments.folder, report), report)
    check_images(dataset, report)
    report_duplicates(dataset, report)
    report_statistics(dataset, report)
    if arguments.list is not None:
        write_atomically(arguments.list, lambda file: file.write(list_of_names(dataset)))
    return report.print_all(dataset)


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a dataset, or one folder of class folders")
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help=r"write the paths of the unreadable images there, one a line; \ and newline in a name become \\ and \n",
    )
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder}: no such folder; give a dataset's folder, such as data/Digits")
    if arguments.list is not None and (arguments.list.is_dir() or not arguments.list.parent.is_dir()):
        parser.error(f"--list {arguments.list}: cannot be written; give a file in a folder that exists")
    return arguments


def find_splits(folder: Path, report: "Report") -> dict[str, str]:
    """Split -> its folder; a folder without train and valid is one split, called "".

    Raises: FileNotFoundError if it has no class folders either.
    """
    splits = {}
    for split, names in SPLIT_FOLDERS.items():
        found = [name for name in names if (folder / name).is_dir()]
        if found:
            splits[split] = str(folder / found[0])
    for split in SPLIT_FOLDERS if splits else ():
        if split not in splits:
            report.problem("missing folders", f"{folder / split}: training needs train and valid")
    if not splits:
        list_classes(str(folder))  # raises: a folder of neither kind is a wrong command, not a bad dataset
    return splits or {"": str(folder)}


class Inventory:
    """Names, classes and findings of all images, in numpy arrays: 60 bytes and the name for each of a million files."""

    def __init__(self, splits: dict[str, str], report: "Report") -> None:
        self.roots, self.splits = list(splits.values()), list(splits)
        self.folders: list[tuple[int, str]] = []  # (split, class name)
        self.ignored: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()  # by suffix
        names, counts, lengths = bytearray(), [], []
        for split, root in enumerate(self.roots):
            tree = folder_layouts.Folder()
            for class_name in self._list_classes(split, report):
                images = self._list_images(split, class_name, report)
                self.folders.append((split, class_name))
                counts.append(len(images))
                lengths.append(np.fromiter(map(len, images), dtype=np.int64, count=len(images)))
                names += b"".join(images)
                for inner, count in Counter(os.path.dirname(name) for name in images).items():
                    tree.add((class_name, *Path(os.fsdecode(inner)).parts), count)
            self._count_ignored(root)
            report_layer(root, tree, bool(self.splits[split]), report)
        self.names = bytes(names)
        self.ends = np.cumsum(np.concatenate(lengths)) if lengths else np.zeros(0, np.int64)
        self.folder_of = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.sizes = np.zeros((len(self), 2), dtype=np.int32)  # width, height; 0 if it does not load
        self.digests = np.zeros((len(self), 2), dtype=np.uint64)
        self.modes: Counter[str] = Counter()
        self.num_turned = 0

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, index: int) -> str:
        """The file of one image."""
        split, class_name = self.folders[self.folder_of[index]]
        start = self.ends[index - 1] if index else 0
        return os.path.join(self.roots[split], class_name, os.fsdecode(self.names[start : self.ends[index]]))

    def is_readable(self) -> np.ndarray:
        """bool [images]."""
        return self.sizes[:, 0] > 0

    def _list_classes(self, split: int, report: "Report") -> list[str]:
        """The classes of a split; names those that another split has and this one has not."""
        root = self.roots[split]
        try:
            classes = list_classes(root)
        except OSError as error:
            report.problem("missing folders", str(error))
            return []
        earlier = {name for of_split, name in self.folders if of_split != split}
        for name in sorted(earlier.symmetric_difference(classes)) if split else ():
            there, missing = (self.roots[0], root) if name in earlier else (root, self.roots[0])
            report.problem("classes on one side only", f"{missing}/{name}: not there, but {there}/{name} is")
        return classes

    def _list_images(self, split: int, class_name: str, report: "Report") -> list[bytes]:
        folder = os.path.join(self.roots[split], class_name)
        try:
            images = list_images(folder)
        except OSError as error:
            report.problem("folders that cannot be read", f"{folder}: {error.strerror or error}")
            return []
        except ValueError as error:
            report.problem("links that lead back", str(error))
            return []
        if not images:
            report.problem("class folders without images", f"{folder}: add images or remove the folder")
        return images

    def _count_ignored(self, root: str) -> None:
        """Count the files that the program passes over: hidden, of another kind, outside a class folder."""
        for folder, subfolders, files in os.walk(root):
            hidden = [name for name in (*subfolders, *files) if name.startswith(".")]
            self.ignored["hidden files or folders"] += len(hidden)
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            self.left_out.update(kind_of_name(name) for name in files if is_left_out(name))
            if folder == root:
                images = [name for name in files if name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES)]
                self.ignored["images outside a class folder"] += len(images)


def report_layer(root: str, tree: folder_layouts.Folder, is_split: bool, report: "Report") -> None:
    """Say if the folders of a root may be something else than classes."""
    is_wrong, doubt = folder_layouts.layer_doubt(tree, is_split)
    if doubt:
        (report.problem if is_wrong else report.warning)(NO_CLASSES, f"{root}: {doubt}")


def check_images(dataset: Inventory, report: "Report") -> None:
    """Decode every image and enter what was found into the dataset and the report."""
    tqdm.monitor_interval = 0  # its thread would be in the way of starting processes
    with tqdm(total=len(dataset), unit="image", disable=None, leave=False) as progress:
        for index, finding in enumerate(inspect_all(dataset)):
            progress.update()
            path = dataset.path(index)
            if finding.error:
                report.problem("unreadable images", f"{path}: {finding.error}")
                continue
            dataset.sizes[index] = finding.width, finding.height
            dataset.digests[index] = np.frombuffer(finding.digest, dtype=np.uint64)
            dataset.modes[finding.mode] += 1
            dataset.num_turned += finding.orientation != 1
            if finding.orientation != 1 and not applies_orientation():
                report.warning(TURNED, f"{path}: orientation {finding.orientation}")
            if finding.complaint:
                report.warning("files that load, of which the decoder complained", f"{path}: {finding.complaint}")
            if finding.is_single_colour:
                report.warning("pictures of a single colour", path)
            if not path.lower().endswith(KIND_SUFFIXES[finding.kind]):
                report.warning("wrong suffixes, which do no harm", f"{path}: is {finding.kind}")


@functools.cache
def applies_orientation() -> bool:
    """What config.py says; the three scripts that read it refuse what is neither."""
    node = config_assignments().get("apply_orientation")
    return node is not None and isinstance(node.value, ast.Constant) and node.value.value is True


def inspect_all(dataset: Inventory) -> Iterator[Finding]:
    """The findings of all images in their order, from one process a core.

    Few chunks are under way at a time. When a process is killed, the chunks that were lost are inspected again, image
    by image, so that the one that kills is known by name.
    """
    starts = iter(range(0, len(dataset), CHUNK_IMAGES))
    while True:
        pending: deque[Chunk] = deque()
        pool = start_workers(count_cores())
        try:
            for findings in inspect_chunks(pool, dataset, starts, pending):
                yield from findings
            pool.shutdown()
            return
        except BrokenProcessPool:
            pool.shutdown()
        yield from inspect_singly(dataset.path(index) for images, _ in pending for index in images)


Chunk = tuple[range, Future[list[Finding]]]


def inspect_chunks(
    pool: ProcessPoolExecutor, dataset: Inventory, starts: Iterator[int], pending: deque[Chunk]
) -> Iterator[list[Finding]]:
    """Yield the findings of each chunk in order; `pending` holds those not yet yielded."""
    while True:
        while len(pending) < 4 * count_cores() and (start := next(starts, None)) is not None:
            images = range(start, min(start + CHUNK_IMAGES, len(dataset)))
            pending.append((images, Future()))  # noted first: a broken pool takes nothing and raises
            pending[-1] = images, pool.submit(inspect_images, [dataset.path(index) for index in images])
        if not pending:
            return
        findings = pending[0][1].result()
        pending.popleft()
        yield findings


def inspect_singly(paths: Iterable[str]) -> Iterator[Finding]:
    """The findings of some images, one after the other; a process that is killed takes only its image with it."""
    pool = start_workers(1)
    for path in paths:
        try:
            yield pool.submit(inspect_images, [path]).result()[0]
        except BrokenProcessPool:
            pool = start_workers(1)
            yield Finding(KILLED)
    pool.shutdown()


def start_workers(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, initializer=start_worker)


def count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker() -> None:
    """One thread a process; Ctrl-C is the main process's; what the decoders say on stderr goes into a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)  # libtiff speaks through it
    warnings.simplefilter("ignore")  # Pillow's, about odd metadata
    Image.MAX_IMAGE_PIXELS = None  # decode_image() has decided
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)


def exit_with_parent() -> None:
    """A worker waits for work for ever, also when the main process was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def inspect_images(paths: list[str]) -> list[Finding]:
    return [inspect_image(path) for path in paths]


def inspect_image(path: str) -> Finding:
    """Decode one image, as training does, and describe it."""
    if os.path.exists(path) and not os.path.isfile(path):
        return Finding("not a regular file; remove it")  # reading a pipe would wait for ever
    try:
        data = np.fromfile(path, dtype=np.uint8)
        image, complaint = decode_listening(data)
    except OSError as error:
        return Finding(f"{error.strerror or error}; replace or remove the file")
    except ValueError as error:
        return Finding(str(error).removeprefix(": "))
    except MemoryError:
        return Finding("too large for the memory; remove the file")
    kind = image_kind(data)
    height, width, _ = image.shape
    digest = hashlib.blake2b(data, digest_size=16).digest()
    mode = picture_mode(data)
    return Finding("", complaint, kind, mode, read_orientation(data), is_single_colour(image), width, height, digest)


def decode_listening(data: np.ndarray) -> tuple[np.ndarray, str]:
    """Decode an image; gives what the decoder said too: OpenCV's on stderr, Pillow's as Python's warnings.

    Raises: as decode_image().
    """
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)  # or the next line lands where the last one ended, behind a hole of zeros
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = decode_image(data, "")
    said = os.pread(2, 1000, 0).decode(errors="replace").splitlines()
    lines = [OPENCV_PREFIX.sub("", line) for line in said] + [str(warning.message) for warning in caught]
    return image, next((line for line in lines if line.strip()), "")


def is_single_colour(image: np.ndarray) -> bool:
    """Tell whether all pixels are the same."""
    first = image[0, 0]
    return bool((image[0] == first).all() and (image == first).all())  # nearly all are known by their first row


def picture_mode(data: np.ndarray) -> str:
    """Pillow's name. Only for statistics."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.mode
    except Exception:  # Pillow need not read what OpenCV does, and raises almost anything for odd metadata
        return "other"


def report_duplicates(dataset: Inventory, report: "Report") -> None:
    """Warn of equal files in both splits, and of equal files in different classes; count the rest."""
    readable = np.flatnonzero(dataset.is_readable())
    order = readable[np.lexsort((readable, *dataset.digests[readable].T))]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (dataset.digests[order[1:]] != dataset.digests[order[:-1]]).any(axis=1)
    bounds = np.append(np.flatnonzero(is_first), len(order))
    groups = [order[bounds[k] : bounds[k + 1]] for k in np.flatnonzero(np.diff(bounds) > 1)]
    for group in sorted(groups, key=lambda group: group[0]):
        folders = [dataset.folders[dataset.folder_of[index]] for index in group]
        names = " = ".join(dataset.path(index) for index in group[:4])
        names += f" and {len(group) - 4} more" if len(group) > 4 else ""
        if len({split for split, _ in folders}) > 1:
            report.warning("files in both train and valid: the accuracy will look better than it is", names)
        if len({class_name for _, class_name in folders}) > 1:
            report.warning("equal files in different classes: their labels contradict each other", names)
    copies = sum(len(group) - 1 for group in groups)
    if copies:
        report.say(f"copies: {copies} files have the content of another one")


def report_statistics(dataset: Inventory, report: "Report") -> None:
    """Images and classes of each split, sizes, kinds, what is ignored."""
    counts = np.bincount(dataset.folder_of, minlength=len(dataset.folders))
    for split, name in enumerate(dataset.splits):
        of_split = {
            class_name: int(count)
            for (split_of_class, class_name), count in zip(dataset.folders, counts, strict=True)
            if split_of_class == split
        }
        line = f"{name or 'images'}: {sum(of_split.values())} images in {len(of_split)} classes"
        if of_split:
            small, large = min(of_split, key=of_split.get), max(of_split, key=of_split.get)
            ratio = f", {of_split[large] / of_split[small]:.1f} times as many" if of_split[small] else ""
            line += f"; smallest {small} ({of_split[small]}), largest {large} ({of_split[large]}{ratio})"
        report.say(line)
    sizes = dataset.sizes[dataset.is_readable()]
    if len(sizes):
        sides = {"width": sizes[:, 0], "height": sizes[:, 1], "shortest side": sizes.min(axis=1)}
        spans = [f"{side} {v.min()} to {v.max()} (median {np.median(v):.0f})" for side, v in sides.items()]
        report.say(f"pixels: {', '.join(spans)}")
        modes = ", ".join(f"{mode} {count}" for mode, count in sorted(dataset.modes.items()))
        report.say(f"kinds: {modes}; {dataset.num_turned} with a camera orientation other than upright")
    ignored = [f"{count} {what}" for what, count in dataset.ignored.items() if count]
    if dataset.left_out:
        ignored.append(describe_left_out(dataset.left_out))
    if ignored:
        report.say(f"ignored: {', '.join(ignored)}")


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

    def print_all(self, dataset: Inventory) -> int:
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
        print(f"{printable(self.folder)}: {len(dataset)} images, {bad} unreadable, {warned} warnings; {verdict}.")
        return 1 if self.problems else 0


def list_of_names(dataset: Inventory) -> bytes:
    """The paths of the unreadable images, one a line, each byte as in the file system but for backslash and newline."""
    paths: Iterable[str] = (dataset.path(index) for index in np.flatnonzero(~dataset.is_readable()))
    return b"".join(os.fsencode(path).replace(b"\\", b"\\\\").replace(b"\n", b"\\n") + b"\n" for path in paths)


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
