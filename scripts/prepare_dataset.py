# SPDX-License-Identifier: Apache-2.0
"""Turn a dataset into the folders that train.py and test.py read: train/<class>/<image> and valid/<class>/<image>.

voc2007 and voc2012, for detection and segmentation, keep their own layout.

    python3 scripts/prepare_dataset.py digits
    python3 scripts/prepare_dataset.py cifar10 [--source PATH] [--target DIR] [--short-side 256]
    python3 scripts/prepare_dataset.py voc2012 [--source PATH]
    python3 scripts/prepare_dataset.py folder --source PATH [--valid-share 0.2] [--seed 0] [--test-as-valid]

The images are made in a hidden folder next to the target and get its name when all of them are there: a split that
exists is whole. An interrupted run is continued by the next one. data/README.md describes every dataset.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import os
import signal
import sys
from functools import partial
from pathlib import Path

from preparing import datasets, imagenet_sources, voc_archives
from preparing.building import build
from preparing.counts import Inventory, print_table
from preparing.datasets import DATASETS
from preparing.jobs import SEED, VALID_SHARE, Job
from preparing.sources import SPLITS
from preparing.targets import find_complete, remove_rest, state_of
from preparing.work_folder import RECORD, read_json
from shared.command_line import OneLineParser, print_config_lines, printable


def prepare(job: Job) -> tuple[Inventory, list[str]]:
    """Make what is missing in the target; gives what it holds, and notes. Raises: OSError, ValueError for users."""
    if job.target.exists() and not job.target.is_dir():
        raise ValueError(f"{job.target}: is a file; remove it or choose another --target")
    if job.is_source_named and not job.require_source().exists():
        raise FileNotFoundError(f"--source {job.source_path}: no such file or folder; check the path")
    if job.work.record.exists():  # killed when everything was made: only the names are missing
        with job.work.locked():
            job.work.publish()
    notes: list[str] = []
    inventory = find_complete(job, notes)
    missing = [split for split in job.splits() if split not in inventory]
    if missing:
        build(job, missing, inventory, notes)
        print(f"{job.target}: complete")
    elif inventory:
        remove_rest(job, inventory)
        print(f"{job.target}: there already, {state_of(job, inventory)}")
    else:
        archives = " nor ".join(job.dataset.split_archives.values())
        raise FileNotFoundError(
            f"{job.source_path}: holds neither {archives}; get them and {imagenet_sources.IMAGENET_DEVKIT}, "
            "see data/README.md, and name their folder with --source"
        )
    for split in SPLITS:
        if split not in inventory:
            notes.append(f"{job.folders[split]} is missing: add {job.dataset.split_archives[split]} and run again")
    write_indexes(job, inventory, notes)
    return inventory, notes


def write_indexes(job: Job, inventory: Inventory, notes: list[str]) -> None:
    """Write the index files from which training starts fast, where there is none that fits; notes where it cannot."""
    from core.image_index import index_path, read_index, write_index

    for split in inventory:
        folder = job.target / job.folders[split]
        if not index_path(folder).exists() or read_index(folder) is None:
            try:
                write_index(folder)
            except OSError as error:
                reason = error.strerror or error
                notes.append(f"no index file: {index_path(folder)}: {reason}; training lists the folder instead")


def config_values(job: Job, inventory: Inventory) -> dict[str, str | int]:
    """What to set in config.py; the folders follow from dataset_name where they have the usual names.

    Where photos were turned, new ones from the same cameras are to be turned too.
    """
    is_inside = job.target.parent == datasets.DATA.resolve()
    values: dict[str, str | int] = {
        "dataset_name": job.target.name if is_inside else job.dataset.folder or job.target.name,
        "model_num_classes": max(map(len, inventory.values())),
    }
    if not is_inside or job.dataset.split_folders != SPLITS:
        root = f"./data/{job.target.name}" if is_inside else job.target
        for name, split in (("train", "train"), ("valid", "valid"), ("test", "valid")):
            if split in inventory:
                values[f"{name}_image_dir"] = f"{root}/{job.folders[split]}"
    if job.dataset.label_file:
        values["class_label_file"] = job.dataset.label_file
    if (read_json(job.target / RECORD) or {}).get("turned"):
        values["apply_orientation"] = True
    return values


def print_result(job: Job, inventory: Inventory, notes: list[str]) -> None:
    """The notes, a table of what the target holds, and what to set."""
    for note in dict.fromkeys(notes):  # two looks at one folder give the same notes
        print(f"note: {printable(note)}")
    print_table(inventory)
    print_config_lines("to use it", config_values(job, inventory))


def describe(error: Exception, job: Job | None) -> str:
    """One line; what the operating system refuses (no space, no permission) gets the name of the file."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and (where := error.filename or (job and job.target)):
        text = f"{where}: {error.strerror}"
    if isinstance(error, MemoryError):
        text = "not enough memory"
    if job and job.work.path.exists() and not isinstance(error, ValueError):
        text += "; when that is mended, the same command continues"
    return " ".join(text.split())


def share(text: str) -> float:
    """The value of --valid-share. Raises: ValueError unless it is between 0 and 1."""
    if not 0 < (value := float(text)) < 1:
        raise ValueError
    return value


def positive(text: str) -> int:
    """The value of --short-side. Raises: ValueError below 1."""
    if (value := int(text)) < 1:
        raise ValueError
    return value


def create_parser() -> OneLineParser:
    parser = OneLineParser(prog="prepare_dataset.py", description=__doc__.splitlines()[0])
    names = [*DATASETS, *voc_archives.FOLDERS]
    parser.add_argument("name", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument("--source", type=Path, metavar="PATH", help="file, archive or folder on disk, for no download")
    parser.add_argument("--target", type=Path, metavar="DIR", help="folder to make (default: data/<dataset> here)")
    parser.add_argument(
        "--short-side", type=positive, metavar="N", help="store images with a longer short side at N pixels, as JPEG"
    )
    parser.add_argument(
        "--valid-share", type=share, metavar="S", help=f"of each class, where no split exists (default: {VALID_SHARE})"
    )
    parser.add_argument("--seed", type=int, metavar="N", help=f"decides which images those are (default: {SEED})")
    parser.add_argument(
        "--test-as-valid", action="store_true", help="of a folder with train and test: validate on test"
    )
    return parser


def main(command_line: list[str] | None = None) -> int:
    """Exit status: 0 if the target is complete, 2 for an error, 130 after Ctrl-C."""
    parser, job = create_parser(), None
    arguments = parser.parse_args(command_line)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C
    try:
        if arguments.name in voc_archives.FOLDERS:
            show = partial(print, "\n".join(voc_archives.prepare(arguments)))
        else:
            job = Job(arguments)
            show = partial(print_result, job, *prepare(job))
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; the same command continues", file=sys.stderr)
        return 130
    except (OSError, ValueError, MemoryError) as error:
        print(f"{parser.prog}: {describe(error, job)}", file=sys.stderr)
        return 2
    try:
        show()
        print(end="", flush=True)
    except BrokenPipeError:  # whoever reads this, as head does, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    return 0


if __name__ == "__main__":
    sys.exit(main())
