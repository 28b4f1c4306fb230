# SPDX-License-Identifier: Apache-2.0
"""Decode every image of a dataset and say what would stop training, or spoil its result, before it costs a night.

    python3 scripts/check_dataset.py data/Flowers [--list bad.txt]

FOLDER holds train/ and valid/ (or ILSVRC2012_img_train and ILSVRC2012_img_val), or is one folder of class folders; or
it has boxes or masks in a layout of Pascal VOC or COCO, for detection and segmentation (docs/annotated_folders.md).
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

from checking.annotated_inventory import AnnotatedInventory
from checking.images import ImageFiles, list_of_names
from checking.inspection import inspect_all
from checking.inventory import Inventory, find_splits
from checking.report import UNREADABLE_IMAGES, Kind, Report
from core.annotated_folders import list_contents
from core.atomic_files import write_atomically
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
TURNED = Kind(
    "photo",
    "photos",
    " that the camera noted as turned, which training takes as stored: set apply_orientation = True in config.py, or "
    "let prepare_dataset.py folder do the turning",
)
TURNED_ANNOTATED = Kind(
    "photo",
    "photos",
    " that the camera noted as turned, which training takes as stored, with boxes and masks of these pixels: if they "
    "were drawn on the turned photo, store it turned",
)
COMPLAINED = Kind("file that loads", "files that load", ", of which the decoder complained")
SINGLE_COLOUR = Kind("picture", "pictures", " of a single colour")
WRONG_SUFFIX = Kind("wrong suffix, which does no harm", "wrong suffixes, which do no harm")


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
    dataset: ImageFiles
    if contents := list_contents(str(arguments.folder)):
        dataset = AnnotatedInventory(str(arguments.folder), contents, report)
    else:
        dataset = Inventory(find_splits(arguments.folder, report), report)
    check_images(dataset, report)
    dataset.report_duplicates(report)
    dataset.report_statistics(report)
    if arguments.list is not None:
        write_atomically(arguments.list, lambda file: file.write(list_of_names(dataset.list_unreadable())))
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


def check_images(dataset: ImageFiles, report: Report) -> None:
    """Decode every image and enter what was found into the dataset and the report."""
    is_annotated = isinstance(dataset, AnnotatedInventory)
    turned = TURNED_ANNOTATED if is_annotated else TURNED
    tqdm.monitor_interval = 0  # its thread would be in the way of starting processes
    with tqdm(total=len(dataset), unit="image", disable=None, leave=False) as progress:
        for index, finding in enumerate(inspect_all(dataset)):
            progress.update()
            path = dataset.path(index)
            if finding.error:
                report.problem(UNREADABLE_IMAGES, f"{path}: {finding.error}")
                continue
            dataset.sizes[index] = finding.width, finding.height
            dataset.digests[index] = np.frombuffer(finding.digest, dtype=np.uint64)
            dataset.modes[finding.mode] += 1
            dataset.num_turned += finding.orientation != 1
            if finding.orientation != 1 and (is_annotated or not applies_orientation()):
                report.warning(turned, f"{path}: orientation {finding.orientation}")
            if finding.complaint:
                report.warning(COMPLAINED, f"{path}: {finding.complaint}")
            if finding.is_single_colour:
                report.warning(SINGLE_COLOUR, path)
            if not path.lower().endswith(KIND_SUFFIXES[finding.kind]):
                report.warning(WRONG_SUFFIX, f"{path}: is {finding.kind}")


@functools.cache
def applies_orientation() -> bool:
    """What config.py says; the three scripts that read it refuse what is neither."""
    node = config_assignments().get("apply_orientation")
    return node is not None and isinstance(node.value, ast.Constant) and node.value.value is True


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
