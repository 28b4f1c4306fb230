# SPDX-License-Identifier: Apache-2.0
"""Decode every image of a dataset and say what would stop training, or spoil its result, before it costs a night.

    python3 scripts/check_dataset.py data/Flowers [--list bad.txt]

FOLDER holds train/ and valid/ (or ILSVRC2012_img_train and ILSVRC2012_img_val), or is one folder of class folders.
Exit status 0: training works, though there may be warnings; 1: it would fail; 2: the command is wrong.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import ast
import functools
import os
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from checking.inspection import inspect_all
from checking.inventory import Inventory, find_splits, list_of_names
from checking.report import Report
from core.atomic_files import write_atomically
from core.image_names import describe_left_out
from shared.command_line import OneLineParser, config_assignments
from utils import user_errors

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
TURNED = (
    "photos that the camera noted as turned, which training takes as they are stored: set apply_orientation = True in "
    "config.py, or let prepare_dataset.py folder turn them"
)


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
    return report.print_all(len(dataset))


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


def check_images(dataset: Inventory, report: Report) -> None:
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


def report_duplicates(dataset: Inventory, report: Report) -> None:
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


def report_statistics(dataset: Inventory, report: Report) -> None:
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
            small, large = min(of_split, key=of_split.__getitem__), max(of_split, key=of_split.__getitem__)
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


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
