# SPDX-License-Identifier: Apache-2.0
"""Turn a dataset into the folders that train.py and test.py read: train/<class>/<image> and valid/<class>/<image>.

    python3 scripts/prepare_dataset.py digits
    python3 scripts/prepare_dataset.py cifar10 [--source PATH] [--target DIR] [--short-side 256]
    python3 scripts/prepare_dataset.py folder --source PATH [--valid-share 0.2] [--seed 0] [--test-as-valid]

The images are made in a hidden folder next to the target and get its name when all of them are there: a split that
exists is whole. An interrupted run is continued by the next one. data/README.md describes every dataset.
"""

from command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
from tqdm import tqdm

import imagenet_sources
import sources
from archives import Parts, damage_named
from command_line import REPOSITORY, OneLineParser, print_config_lines, printable
from downloads import download
from sources import SPLITS, Sample, Source, is_image
from work_folder import RECORD, Conversion, WorkFolder, read_json, write_json, write_samples

sys.path.insert(0, str(REPOSITORY))  # for imgproc and dataset, imported where they are needed

DATA = REPOSITORY / "data"
VALID_SHARE, SEED = 0.2, 0
MOVE_AWAY = "move it away and run again, or choose another --target"
SplitInventory = dict[str, tuple[int, int]]  # class -> (images, bytes)
Inventory = dict[str, SplitInventory]  # split -> its classes
OUTCOME = ("splits", "origins", "notes", "turned")  # what RECORD has beside the options of the run


class Dataset(NamedTuple):
    """One row of DATASETS."""

    folder: str | None  # below data/; also dataset_name in config.py. None: named after the source
    read: Callable[[Source], Iterator[Sample]]
    classes: Parts | int | None  # their names, or how many were published
    images: tuple[int, int] | int | None  # as published: train and valid, or the sum where no split was published
    source: Path | None = None  # read without --source; None: downloaded, or see `remedy`
    remedy: str = ""  # what to do without a source where nothing may be downloaded
    is_fixed: bool = False  # False: a source with fewer images is taken, and a line says so
    is_divided: bool = True  # False: --valid-share and --seed hold
    split_folders: Parts = SPLITS
    split_archives: dict[str, str] | None = None  # in the source; each gives one split, now or in a later run
    label_file: str = ""  # class_label_file in config.py


TEN = tuple("0123456789")
DATASETS = {
    "digits": Dataset("Digits", sources.read_digits, TEN, (1437, 360), DATA / "digits.csv.gz", is_fixed=True),
    "mnist": Dataset("MNIST", sources.read_mnist, TEN, (60_000, 10_000)),
    "cifar10": Dataset("CIFAR10", sources.read_cifar10, sources.CIFAR10_CLASSES, (50_000, 10_000)),
    "cifar100": Dataset("CIFAR100", sources.read_cifar100, 100, (50_000, 10_000)),
    "tiny_imagenet_200": Dataset("TinyImageNet_200", imagenet_sources.read_tiny_imagenet_200, 200, (100_000, 10_000)),
    "mini_imagenet_1k": Dataset(
        "MiniImageNet_1K",
        imagenet_sources.read_mini_imagenet_1k,
        100,
        None,
        remedy="get images/ and the csv files (data/README.md) and name their folder or archive with --source",
        is_divided=False,
    ),
    "imagenet_1k": Dataset(
        "ImageNet_1K",
        imagenet_sources.read_imagenet_1k,
        1000,
        (imagenet_sources.IMAGENET_IMAGES["train"], imagenet_sources.IMAGENET_IMAGES["valid"]),
        DATA / "ImageNet_1K",
        split_folders=("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
        split_archives=imagenet_sources.IMAGENET_ARCHIVES,
        label_file="./data/ImageNet_1K_labels_map.txt",
    ),
    "caltech101": Dataset("Caltech101", sources.read_caltech101, 101, 8_677, is_divided=False),
    "caltech256": Dataset("Caltech256", sources.read_caltech256, 256, 29_780, is_divided=False),
    "folder": Dataset(
        None,
        sources.read_folder,
        None,
        None,
        remedy="name your folder of class folders with --source",
        is_divided=False,
    ),
}


class Job:
    """What one command line asks for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Raises: ValueError if the options do not go together."""
        self.name, self.short_side = arguments.name, arguments.short_side
        self.dataset = dataset = DATASETS[self.name]
        options = {"--valid-share": arguments.valid_share, "--seed": arguments.seed}
        for option, value in options.items():
            if dataset.is_divided and value is not None:
                raise ValueError(f"{option} {value}: {self.name} is divided by its authors; leave the option out")
        self.valid_share = VALID_SHARE if arguments.valid_share is None else arguments.valid_share
        self.seed = SEED if arguments.seed is None else arguments.seed
        self.test_as_valid = arguments.test_as_valid
        if self.test_as_valid and dataset.folder is not None:
            raise ValueError(f"--test-as-valid: goes with folder, not with {self.name}; leave the option out")
        # A published dataset keeps its bytes, with which others have measured.
        self.conversion = Conversion(self.short_side, dataset.folder is None or self.short_side is not None)
        self.is_source_named = arguments.source is not None
        self.source_path: Path | None = arguments.source or dataset.source
        if self.source_path is None and dataset.remedy:
            raise ValueError(f"{self.name}: {dataset.remedy}")
        folder = dataset.folder or bare_name(self.source_path.resolve())
        self.target = (arguments.target or DATA / folder).resolve()
        self.work = WorkFolder(self.target)
        self.folders = dict(zip(SPLITS, dataset.split_folders, strict=True))
        if dataset.folder is None and overlap(self.target, self.source_path.resolve()):
            raise ValueError(f"{self.target}: lies in the source or around it; choose another --target")

    def splits(self) -> Parts:
        """The splits that the source can give."""
        if self.dataset.split_archives:
            return imagenet_sources.imagenet_splits(self.source_path)
        return SPLITS

    def options(self) -> dict:
        """What decides how the files of a target look."""
        share = {} if self.dataset.is_divided else {"valid_share": self.valid_share, "seed": self.seed}
        source = {"source": str(self.source_path.resolve())} if self.dataset.folder is None else {}
        test = {"test_as_valid": True} if self.test_as_valid else {}
        return {"name": self.name, "short_side": self.short_side, **share, **source, **test}

    def recipe(self, splits: list[str]) -> dict:
        """The options, and which source exactly: an archive that was replaced is another one."""
        paths = [self.source_path] if self.source_path else []
        if self.dataset.split_archives:
            paths = [self.source_path / self.dataset.split_archives[split] for split in splits]
        upright = {"upright": True} if self.conversion.is_upright else {}  # what older versions did not know
        return {**self.options(), **upright, "splits": splits, "files": [identify(path) for path in paths]}

    def origin(self, split: str) -> list:
        """What tells a source from another one or from itself before a change: its place, size and time of change.

        Of a folder the number of images and their bytes, unless the target lies inside.
        """
        path = self.source_path
        if path and self.dataset.split_archives:
            path = path / self.dataset.split_archives[split]
        if path is None or not path.is_dir() or overlap(self.target, path.resolve()):
            return identify(path) if path else []
        try:
            sizes = image_sizes(path)
        except OSError:  # a link that leads nowhere, for example, which readers leave out
            return identify(path)
        return [*identify(path), len(sizes), sum(sizes)]


def bare_name(path: Path) -> str:
    """The name of a folder, or that of an archive without its suffix."""
    return path.name if path.is_dir() else path.name.partition(".")[0]


def overlap(first: Path, second: Path) -> bool:
    """Tell whether one folder lies in the other."""
    return first.is_relative_to(second) or second.is_relative_to(first)


def identify(path: Path) -> list:
    """The place of a source and, for a file, its size and time of change."""
    if not path.is_file():
        return [str(path.resolve())]
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def prepare(job: Job) -> tuple[Inventory, list[str]]:
    """Make what is missing in the target; gives what it holds, and notes. Raises: OSError, ValueError for users."""
    if job.target.exists() and not job.target.is_dir():
        raise ValueError(f"{job.target}: is a file; remove it or choose another --target")
    if job.is_source_named and not job.source_path.exists():
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


def remove_rest(job: Job, inventory: Inventory) -> None:
    """Remove what a run left that was killed while it removed its work folder; one that is half done stays."""
    recipe = read_json(job.work.recipe) or {}
    if job.work.path.exists() and set(recipe.get("splits", ())) <= inventory.keys():
        with job.work.locked():
            job.work.remove()


def find_complete(job: Job, notes: list[str]) -> Inventory:
    """The splits that are in the target. Raises: ValueError if they are not what this command would make."""
    record = read_json(job.target / RECORD)
    there = [split for split in SPLITS if (job.target / job.folders[split]).is_dir()]
    if record is None and not there and (job.dataset.split_archives or not holds_anything(job.target)):
        return {}
    check_options(job, record)
    # of a split that has an archive of its own, the folder may be removed to make it anew
    wanted = there if job.dataset.split_archives else record.get("splits", {}) if record else SPLITS
    inventory = {split: count_images(job.target / job.folders[split]) for split in wanted}
    try:
        check_inventory(job, job.target, inventory, notes)
        sizes = {len(classes) for classes in inventory.values()}
        if record is None and isinstance(job.dataset.classes, int) and sizes != {job.dataset.classes}:
            raise ValueError(f"{job.target}: not the {job.dataset.classes:,} classes of {job.name}")
    except ValueError as error:
        raise ValueError(f"{error}: not complete; put them back, or {MOVE_AWAY}") from error
    notes += (record or {}).get("notes", [])
    return inventory


def state_of(job: Job, inventory: Inventory) -> str:
    """What there is to say of a complete target: its source has changed, or its images have, which is recorded."""
    record = read_json(job.target / RECORD) or {}
    if old := other_sources(job, record):
        origins = " and ".join(dict.fromkeys(old.values()))
        return f"but made from {origins}; {making_anew(job, old)}"
    if job.conversion.is_upright and "turned" not in record:
        return f"but made by a version that left photos on their side; if there are any, {making_anew(job, inventory)}"
    now = {split: summarize(classes) for split, classes in inventory.items()}
    was = record.get("splits", now)
    if now == was:
        return "nothing to do"
    write_json(job.target / RECORD, record | {"splits": now})
    more = sum(now[split]["images"] - was[split]["images"] for split in was.keys() & now.keys())
    what = f"{abs(more):,} images {'more' if more > 0 else 'fewer'}" if more else "other images"
    return f"with {what} than when it was made; record and index are renewed"


def making_anew(job: Job, splits: Iterable[str]) -> str:
    """How to make some splits again."""
    folders = [job.target / job.folders[split] for split in splits] if job.dataset.split_archives else [job.target]
    return f"{shlex.join(['rm', '-r', *map(str, folders)])}, then the same command, makes it anew"


def other_sources(job: Job, record: dict) -> dict[str, str]:
    """The splits that were made from another source than the one named now, or from what it was: split -> words."""
    old = {}
    for split, was in record.get("origins", {}).items() if job.is_source_named else ():
        now = job.origin(split)
        is_archive_gone = job.dataset.split_archives and len(now) == 1  # it is not needed any more
        if now != was and not is_archive_gone:
            old[split] = "a download" if not was else was[0] if was[0] != now[0] else f"{was[0]} before it was changed"
    return old


def check_options(job: Job, record: dict | None) -> None:
    """Raise ValueError if a target was made with other options, or by hand where that cannot be the same."""
    if record is None:
        if job.dataset.folder is None or job.short_side:
            raise ValueError(f"{job.target}: is there, but not made by this command; {MOVE_AWAY}")
        return
    made_with = {key: value for key, value in record.items() if key not in OUTCOME}
    if made_with != job.options():
        wanted = job.options()
        changed = [key for key in wanted | made_with if made_with.get(key) != wanted.get(key)]
        values = ", ".join(f"{key} = {made_with.get(key)!r}, not {wanted.get(key)!r}" for key in changed)
        raise ValueError(f"{job.target}: was made with {values}; {MOVE_AWAY}")


def holds_anything(folder: Path) -> bool:
    """Tell whether a folder exists and has anything in it but hidden files."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def build(job: Job, splits: list[str], inventory: Inventory, notes: list[str]) -> None:
    """Fill the work folder and move the splits into the target; keep it for the next run if that can continue."""
    if job.source_path is not None and not job.source_path.exists():  # one of DATASETS
        raise FileNotFoundError(f"--source {job.source_path}: no such file or folder; check the path")
    created = [folder for folder in job.work.path.parents if not folder.exists()]
    with job.work.locked():
        try:
            for split in splits:  # by hand, or by a run that ended just now
                if holds_anything(folder := job.target / job.folders[split]):
                    raise ValueError(f"{folder}: is there, but was not made by this run; move it away or run again")
            fill(job, splits, inventory, notes)
            job.work.publish()
        except BaseException as error:  # Ctrl-C too
            # a folder can be mended in place; another archive would be another source
            is_final = isinstance(error, ValueError) and not (job.source_path and job.source_path.is_dir())
            if is_final or not job.work.has_progress():
                job.work.remove()
                with contextlib.suppress(OSError):  # another run may use them by now
                    for folder in created:
                        folder.rmdir()
            raise


def fill(job: Job, splits: list[str], inventory: Inventory, notes: list[str]) -> None:
    """Write every image of some splits, check that all are there, and record them; adds to inventory and notes."""
    work = job.work
    work.begin(job.recipe(splits))
    path = job.source_path or download(job.name, work.downloads)
    total = published_total(job.dataset, splits)
    source = Source(path, job.valid_share, job.seed, tuple(splits), total, test_as_valid=job.test_as_valid)
    if any(job.conversion):
        limit_threads(job.conversion)
    written, turned, names = 0, 0, set[str]()
    with damage_named(path), tqdm(desc=job.name, unit=" images", total=source.total, disable=None) as bar:
        try:
            for name, was_turned in write_samples(job.dataset.read(source), work, job.folders, job.conversion):
                written, turned = written + 1, turned + was_turned
                if name in names:  # only a name to which .jpg was appended can be there
                    raise ValueError(f"{name.removesuffix('.jpg')!r} and {name!r} get the same name; rename one")
                names.add(name)
                bar.total = source.total
                bar.update()
        except ValueError as error:
            raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from error
    work.keep_only(names)
    made = {split: count_images(work.images / job.folders[split]) for split in splits}
    check_inventory(job, path, {**inventory, **made}, notes)
    if (found := sum(summarize(split)["images"] for split in made.values())) != written:
        raise ValueError(
            f"{work.images}: holds {found:,} images where {written:,} were written, so names differ in upper and lower "
            "case only, which this file system does not tell apart; rename one of each and run again"
        )
    if turned:
        source.notes.append(f"{turned:,} photos were turned upright, as their camera noted")
    notes += source.notes
    inventory.update(made)
    os.sync()  # the record says that everything is on the disk
    before = read_json(job.target / RECORD) or {}  # of the other split, if that was made earlier
    outcome = (
        {split: summarize(inventory[split]) for split in inventory},
        {**before.get("origins", {}), **{split: job.origin(split) for split in splits}},
        [*before.get("notes", []), *source.notes],
        before.get("turned", 0) + turned,
    )
    write_json(work.record, job.options() | dict(zip(OUTCOME, outcome, strict=True)))


def published_total(dataset: Dataset, splits: list[str]) -> int | None:
    """How many images to expect; readers that list names first know better."""
    if isinstance(dataset.images, tuple):
        return sum(dataset.images[SPLITS.index(split)] for split in splits)
    return None


def limit_threads(conversion: Conversion) -> None:
    """One thread an image: the images are what is done in parallel."""
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if conversion.short_side:
        import torch  # takes seconds

        torch.set_num_threads(1)


def count_images(split_folder: Path) -> SplitInventory:
    """Count the images of each class folder, those of the folders inside it among them; none if it is not there."""
    inventory: SplitInventory = {}
    if not split_folder.is_dir():
        return inventory
    for class_folder in sorted(path for path in split_folder.iterdir() if path.is_dir() and path.name[0] != "."):
        sizes = image_sizes(class_folder)
        inventory[class_folder.name] = len(sizes), sum(sizes)
    return inventory


def image_sizes(top: Path) -> list[int]:
    """The bytes of each image below a folder that is not hidden."""
    sizes = []
    for folder, subfolders, files in os.walk(top, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        names = [name for name in files if is_image(name) and not name.startswith(".")]
        sizes += [os.stat(os.path.join(folder, name)).st_size for name in names]
    return sizes


def summarize(inventory: SplitInventory) -> dict[str, int]:
    """What the record says of a split."""
    images, size = (sum(column) for column in zip((0, 0), *inventory.values(), strict=True))
    return {"classes": len(inventory), "images": images, "bytes": size}


def check_inventory(job: Job, where: Path, inventory: Inventory, notes: list[str]) -> None:
    """Note where the numbers are not the published ones.

    Raises: ValueError, which names `where`, if a split has other classes than the dataset or the other split, a class
    no image, or a fixed dataset another number of images.
    """
    dataset, notes_of_images = job.dataset, []
    all_classes = set().union(*inventory.values())
    if isinstance(dataset.classes, tuple):
        all_classes = set(dataset.classes)
    for split, classes in inventory.items():
        with_images = {name for name, (images, _) in classes.items() if images}
        if missing := sorted(all_classes - with_images):
            raise ValueError(f"{where}: no images of class {', '.join(missing[:5])} in {split}")
        if unknown := sorted(classes.keys() - all_classes):
            raise ValueError(f"{where}: unknown class {', '.join(unknown[:5])} in {split}")
        images = summarize(classes)["images"]
        if isinstance(dataset.images, tuple) and images != (published := dataset.images[SPLITS.index(split)]):
            notes_of_images.append(f"{images:,} images in {split}, the published dataset has {published:,}")
    if not all_classes:
        raise ValueError(f"{where}: no images of {job.name} in it")
    total = sum(summarize(classes)["images"] for classes in inventory.values())
    if isinstance(dataset.images, int) and total != dataset.images:
        notes_of_images.append(f"{total:,} images, the published dataset has {dataset.images:,}")
    if notes_of_images and dataset.is_fixed:
        raise ValueError(f"{where}: {notes_of_images[0]}")
    if isinstance(dataset.classes, int) and len(all_classes) != dataset.classes:
        notes.append(f"{len(all_classes):,} classes, the published dataset has {dataset.classes:,}")
    notes += notes_of_images


def write_indexes(job: Job, inventory: Inventory, notes: list[str]) -> None:
    """Write the index files from which training starts fast, where there is none that fits; notes where it cannot."""
    from core.folder_index import index_path, read_index, write_index

    for split in inventory:
        folder = job.target / job.folders[split]
        if not index_path(folder).exists() or read_index(folder) is None:
            try:
                write_index(folder)
            except OSError as error:
                reason = error.strerror or error
                notes.append(f"no index file: {index_path(folder)}: {reason}; training lists the folder instead")


def print_table(inventory: Inventory) -> None:
    """One line per split; the last two columns name a class and its number of images."""
    print(f"\n{'split':<6}{'classes':>8}{'images':>10}{'bytes':>17}  {'smallest class':<24}largest class")
    for split, classes in inventory.items():
        sums = summarize(classes)
        smallest, largest = (choose(classes, key=lambda name: classes[name][0]) for choose in (min, max))
        ends = [f"{name} ({classes[name][0]:,})" for name in (smallest, largest)]
        print(f"{split:<6}{sums['classes']:>8}{sums['images']:>10,}{sums['bytes']:>17,}  {ends[0]:<24}{ends[1]}")


def config_values(job: Job, inventory: Inventory) -> dict[str, str | int]:
    """What to set in config.py; the folders follow from dataset_name where they have the usual names.

    Where photos were turned, new ones from the same cameras are to be turned too.
    """
    is_inside = job.target.parent == DATA.resolve()
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


def describe(error: Exception, job: Job | None) -> str:
    """One line; what the operating system refuses (no space, no permission) gets the name of the file."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or job.target}: {error.strerror}"
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
    parser.add_argument("name", metavar="NAME", choices=DATASETS, help=", ".join(DATASETS))
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
        job = Job(arguments)
        inventory, notes = prepare(job)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; the same command continues", file=sys.stderr)
        return 130
    except (OSError, ValueError, MemoryError) as error:
        print(f"{parser.prog}: {describe(error, job)}", file=sys.stderr)
        return 2
    try:
        for note in dict.fromkeys(notes):  # two looks at one folder give the same notes
            print(f"note: {printable(note)}")
        print_table(inventory)
        print_config_lines("to use it", config_values(job, inventory))
        print(end="", flush=True)
    except BrokenPipeError:  # whoever reads this, as head does, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    return 0


if __name__ == "__main__":
    sys.exit(main())
