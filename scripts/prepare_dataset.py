# SPDX-License-Identifier: Apache-2.0
"""Turn a dataset into the folders that train.py and test.py read: train/<class>/<image> and valid/<class>/<image>.

    python3 scripts/prepare_dataset.py digits
    python3 scripts/prepare_dataset.py cifar10 [--source PATH] [--target DIR]

The images are made in a hidden folder next to the target, which gets its name when everything is in it: a target
that exists is whole. A second run finds it and does nothing. data/README.md describes every dataset.
"""

import argparse
import contextlib
import gzip
import http.client
import os
import shutil
import signal
import socket
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, NamedTuple, NoReturn

import cv2
import numpy as np
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
SPLITS = ("train", "valid")
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # as imgproc.py
DIGITS_LINES = 1797
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# The largest published file that is taken from an archive has 31 MB; far more is an archive made to fill the disk.
MAX_FILE_BYTES = 2**28
MAX_READ_BYTES = 2**20
MAX_ARCHIVE_BYTES = 2**43
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)

Parts = tuple[str, ...]
Inventory = dict[str, dict[str, tuple[int, int]]]  # split -> class -> (images, bytes)


class Dataset(NamedTuple):
    """One row of DATASETS."""

    folder: str  # below data/; also dataset_name in config.py
    classes: Parts
    images: tuple[int, int]  # as published, train and valid
    is_fixed: bool  # False: a source with fewer images is taken, and a line says so
    prepare: Callable[[Path | None, Path], None]  # (source or None, folder to fill)


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like every other error of this program."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


class BoundedReader:
    """A file that refuses huge single reads and impossible places.

    tarfile reads an extended header into memory in one go, and a compressed header of a few MB can claim many GB.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.tell = file.tell

    def seek(self, position: int) -> int:
        """Raises: tarfile.ReadError for a position that only a damaged size leads to."""
        if not 0 <= position <= MAX_ARCHIVE_BYTES:
            raise tarfile.ReadError(f"a file that ends at byte {position}")
        return self.file.seek(position)

    def read(self, size: int) -> bytes:
        """Raises: tarfile.ReadError if more than MAX_READ_BYTES are asked for."""
        if not 0 <= size <= MAX_READ_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.file.read(size)


def safe_parts(source: Path, name: str) -> Parts:
    """Split the name of an archive member into its folders and file name.

    Raises: ValueError if it is absolute or leads upwards, on any system.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if PureWindowsPath(name).anchor or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(f"{source}: {name!r} is a name that can lead out of the target; do not use this archive")
    return parts


def tar_files(source: Path) -> Iterator[tuple[Parts, BinaryIO]]:
    """Read a .tar or .tar.gz from front to back, to its last byte so that the checksum of gzip is compared.

    Raises: ValueError for a member that is neither a file nor a folder; one of DAMAGE if the archive is not whole.
    """
    with source.open("rb") as packed:
        is_gzip = packed.read(2) == b"\x1f\x8b"
        packed.seek(0)
        unpacked = BoundedReader(gzip.GzipFile(fileobj=packed) if is_gzip else packed)
        with tarfile.open(fileobj=unpacked, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # a list of all members so far, which nobody reads
                parts = safe_parts(source, member.name)
                if member.isreg():
                    yield parts, archive.extractfile(member)
                elif not member.isdir():
                    raise ValueError(f"{source}: {member.name!r} is a link or a device; do not use this archive")
            # tarfile takes a damaged header, and a cut between two files, for the end of the archive
            unpacked.seek(archive.offset)
            end = unpacked.read(tarfile.BLOCKSIZE)
            if len(end) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("its end is missing")
            while end:
                if end.strip(b"\0"):
                    raise tarfile.ReadError("a header is unreadable")
                end = unpacked.read(MAX_READ_BYTES)


def zip_files(source: Path) -> Iterator[tuple[Parts, BinaryIO]]:
    """Read a .zip. Raises: as tar_files."""
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            parts = safe_parts(source, member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"{source}: {member.filename!r} is a link or a device; do not use this archive")
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{member.filename!r} is encrypted or not compressed by deflate")
            if member.header_offset < 0:
                raise zipfile.BadZipFile(f"{member.filename!r} begins at byte {member.header_offset}")
            if not member.is_dir():
                with archive.open(member) as file:
                    yield parts, file


def folder_files(source: Path) -> Iterator[tuple[Parts, BinaryIO]]:
    """Read the files of a folder, down to <source>/<folder>/train/<class>/<file>; their names begin with <source>."""
    root = source.resolve()
    for pattern in ("*", "*/*", "*/*/*", "*/*/*/*"):
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                with path.open("rb") as file:
                    yield path.relative_to(root.parent).parts, file


def open_source(source: Path) -> Iterator[tuple[Parts, BinaryIO]]:
    """Yield (parts of the name, open file) of every file in a folder or an archive; its first bytes tell which kind.

    Raises: ValueError if it is neither.
    """
    if source.is_dir():
        return folder_files(source)
    with source.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    if start[:4] == b"PK\x03\x04":
        return zip_files(source)
    if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
        return tar_files(source)
    raise ValueError(f"{source}: neither a folder nor a .tar, .tar.gz or .zip archive; name one of these")


def check_class(source: Path, parts: Parts, classes: Parts) -> None:
    """Raise ValueError if the image <split>/<class>/<image> belongs to another dataset, before much is copied."""
    if parts[-2] not in classes:
        raise ValueError(f"{source}: {'/'.join(parts)!r}: no class of this dataset; those are {', '.join(classes)}")


def write_file(source: Path, file: BinaryIO, path: Path) -> None:
    """Copy an open file of the source to a new path. Raises: ValueError if it is there or above MAX_FILE_BYTES."""
    name = "/".join(path.parts[-3:])
    if path.exists():
        raise ValueError(f"{source}: holds {name!r} twice; get it again")
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as target:
        while chunk := file.read(MAX_READ_BYTES):
            written += len(chunk)
            if written > MAX_FILE_BYTES:
                raise ValueError(f"{source}: {name!r} has more than {MAX_FILE_BYTES:,} bytes; do not use it")
            target.write(chunk)


def write_png(pixels: np.ndarray, path: Path) -> None:
    """Write [H, W] grey or [H, W, 3] BGR uint8 pixels. Raises: OSError, which cv2.imwrite would hide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def copy_class_folders(source: Path, work: Path, classes: Parts, extra: Callable[[Parts], Path | None]) -> None:
    """Copy <any one folder>/train/<class>/<image> and .../valid/... to `work`, every byte as it is.

    `extra` names the path for a file that is none of these, or None to leave it out; hidden files are left out.
    Raises: ValueError for another class, a second top folder, a name that occurs twice, a damaged archive.
    """
    tops, left_out = set(), 0
    try:
        for parts, file in tqdm(open_source(source), desc="copy", unit=" files", disable=None):
            if not parts:
                raise ValueError(f"{source}: holds a file without a name; get it again")
            if any(part.startswith(".") for part in parts[-3:]):
                continue
            has_suffix = parts[-1].lower().endswith(IMAGE_SUFFIXES)
            if has_suffix and len(parts) >= 3 and parts[-3] in SPLITS:
                check_class(source, parts, classes)
                tops.add("/".join(parts[:-3]))
                path = work.joinpath(*parts[-3:])
            else:
                path = extra(parts)
                left_out += has_suffix and path is None
            if len(tops) > 1:
                raise ValueError(f"{source}: holds two datasets, {' and '.join(map(repr, sorted(tops)))}; name one")
            if path is not None:
                write_file(source, file, path)
    except DAMAGE as error:
        raise ValueError(f"{source}: damaged or cut off ({error}); get the file again") from error
    if left_out:
        print(f"{source}: left out {left_out:,} images outside train/<class>/ and valid/<class>/")


def prepare_digits(source: Path | None, work: Path) -> None:
    """Write the 1,797 digits as 8 x 8 grey PNG files named after their line in the CSV file, counted from 1.

    The split is fixed and uses no random numbers: the lines, sorted by class and inside a class as they stand in the
    file, go to valid if their place is 0, 5, 10, ...: 360 of them, a fifth of every class to within one image.
    Raises: ValueError if the source is not the published file.
    """
    source = source or REPOSITORY / "data" / "digits.csv.gz"
    try:
        with gzip.open(source) as file:
            lines = file.read(MAX_READ_BYTES).splitlines()
        table = np.array([[int(value) for value in line.split(b",")] for line in lines], dtype=np.int64)
    except (ValueError, OverflowError, *DAMAGE) as error:
        raise ValueError(f"{source}: damaged or not a digits.csv.gz ({error}); restore the file") from error
    if table.shape != (DIGITS_LINES, 65) or table.min() < 0 or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise ValueError(f"{source}: not {DIGITS_LINES} lines of 64 values 0..16 and a class 0..9; restore the file")
    pixels = np.rint(table[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    labels = table[:, 64]
    for place, line in enumerate(np.argsort(labels, kind="stable")):
        split = "valid" if place % 5 == 0 else "train"
        write_png(pixels[line], work / split / str(labels[line]) / f"{line + 1:04d}.png")


def prepare_cifar10(source: Path | None, work: Path) -> None:
    """Write CIFAR-10 from its Python batches (downloaded without a source) or from class folders.

    Raises: ValueError if the source holds neither or both, or if a batch is not the published file.
    """
    batches = work / ".batches"  # torchvision's root: checked copies that nobody else writes to
    if source is None:
        download_cifar10(batches)
    else:

        def batch_path(parts: Parts) -> Path | None:
            is_batch = parts[-2:-1] == (CIFAR10_FOLDER,) and parts[-1] in CIFAR10_FILES
            return batches.joinpath(*parts[-2:]) if is_batch else None

        copy_class_folders(source, work, CIFAR10_CLASSES, batch_path)
        found = [path.name for path in work.iterdir() if path.is_dir()]
        if not found or (batches.name in found and len(found) > 1):
            raise ValueError(
                f"{source}: holds {'both' if found else 'neither'} {CIFAR10_FOLDER}/ and train/<class>/, "
                "valid/<class>/ with images; name one that has exactly one of the two"
            )
    if batches.exists():
        write_cifar10(batches, work, source)
        shutil.rmtree(batches)


def download_cifar10(root: Path) -> None:
    """Fetch and unpack the published archive below `root`. Raises: ConnectionError in words for users."""
    # Here and below: importing torchvision takes seconds, which the other sources need not wait for.
    from torchvision.datasets import CIFAR10

    socket.setdefaulttimeout(30)  # seconds without a byte; urllib would wait forever
    try:
        CIFAR10(str(root), download=True)
    except (OSError, RuntimeError, http.client.HTTPException, *DAMAGE) as error:
        raise ConnectionError(
            f"cannot download {CIFAR10.url} ({error}); fetch this file by hand and name it: "
            f"python3 scripts/prepare_dataset.py cifar10 --source {CIFAR10.filename}"
        ) from error


def write_cifar10(root: Path, work: Path, source: Path | None) -> None:
    """Write 32 x 32 PNG files named after their place in the batches, counted from 0 in each split.

    Raises: ValueError before anything is unpickled if a file has not the MD5 that torchvision publishes.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    published = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    for name, md5 in published:
        if not check_integrity(root / CIFAR10_FOLDER / name, md5):
            raise ValueError(
                f"{source or CIFAR10.url}: {CIFAR10_FOLDER}/{name} is missing or not the published file (MD5 {md5}); "
                f"get {CIFAR10.url} again"
            )
    for split in SPLITS:
        images = CIFAR10(str(root), train=split == "train", download=False)
        pairs = zip(images.data, images.targets, strict=True)
        for place, (pixels, label) in enumerate(tqdm(pairs, desc=split, total=len(images), disable=None)):
            path = work / split / images.classes[label] / f"{place:05d}.png"
            write_png(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), path)


def take_inventory(where: Path, folder: Path, dataset: Dataset) -> Inventory:
    """Count what `folder` holds.

    Raises: ValueError, which names `where`, if a split has other classes than the dataset, a class no image,
    or a fixed dataset another number of images.
    """
    inventory: Inventory = {}
    for split, published in zip(SPLITS, dataset.images, strict=True):
        class_folders = sorted(path for path in (folder / split).glob("[!.]*") if path.is_dir())
        inventory[split] = {}
        for class_folder in class_folders:
            files = [path for path in class_folder.glob("[!.]*") if path.suffix.lower() in IMAGE_SUFFIXES]
            inventory[split][class_folder.name] = (len(files), sum(path.stat().st_size for path in files))
        classes = {name for name, (images, _) in inventory[split].items() if images}
        if missing := sorted(set(dataset.classes) - classes):
            raise ValueError(f"{where}: no images of class {', '.join(missing)} in {split}")
        if unknown := sorted(set(inventory[split]) - set(dataset.classes)):
            raise ValueError(f"{where}: unknown class {', '.join(unknown)} in {split}")
        images = sum(images for images, _ in inventory[split].values())
        if images != published:
            message = f"{images:,} images in {split}, the published dataset has {published:,}"
            if dataset.is_fixed:
                raise ValueError(f"{where}: {message}")
            print(f"note: {message}")
    return inventory


def build(dataset: Dataset, source: Path | None, target: Path) -> Inventory:
    """Fill a hidden folder next to the target and give it the target's name; remove it if anything goes wrong."""
    created = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.parent / f".{target.name}.partial-{os.getpid()}"
    try:
        work.mkdir()
        dataset.prepare(source, work)
        inventory = take_inventory(source or target, work, dataset)
        os.rename(work, target)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run may use them by now
            for folder in created:
                folder.rmdir()
        raise
    return inventory


def prepare(dataset: Dataset, source: Path | None, target: Path) -> Inventory:
    """Make the target unless it is there. Raises: OSError and ValueError in words for users."""
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target}: is a file; remove it or choose another --target")
    if target.exists() and any(target.iterdir()):
        try:
            inventory = take_inventory(target, target, dataset)
        except ValueError as error:
            raise ValueError(f"{error}: not complete; move it away and run again") from error
        print(f"{target}: there already, nothing to do")
        return inventory
    if source is not None and not source.exists():
        raise FileNotFoundError(f"--source {source}: no such file or folder; check the path")
    inventory = build(dataset, source, target)
    print(f"{target}: complete")
    return inventory


def print_table(inventory: Inventory) -> None:
    """One line per split; the last two columns name a class and its number of images."""
    print(f"\n{'split':<6}{'classes':>8}{'images':>10}{'bytes':>17}  {'smallest class':<24}largest class")
    for split, classes in inventory.items():
        images, size = (sum(column) for column in zip(*classes.values(), strict=True))
        smallest, largest = (choose(classes, key=lambda name: classes[name][0]) for choose in (min, max))
        ends = [f"{name} ({classes[name][0]:,})" for name in (smallest, largest)]
        print(f"{split:<6}{len(classes):>8}{images:>10,}{size:>17,}  {ends[0]:<24}{ends[1]}")


def print_config_lines(dataset: Dataset, target: Path) -> None:
    """Say what to set in config.py; the folders follow from dataset_name unless the target is elsewhere."""
    print(f'\nconfig.py: dataset_name = "{dataset.folder}"')
    print(f"config.py line 34: model_num_classes = {len(dataset.classes)}")
    if target != (REPOSITORY / "data" / dataset.folder).resolve():
        for name, split in (("train", "train"), ("valid", "valid"), ("test", "valid")):
            print(f'config.py: {name}_image_dir = "{target / split}"')


def describe(error: OSError | ValueError, target: Path) -> str:
    """One line; what the operating system refuses (no space, no permission) gets the name of the file."""
    refused = isinstance(error, OSError) and error.strerror
    text = f"{error.filename or target}: {error.strerror}; nothing was made" if refused else str(error)
    return " ".join(text.split())


DATASETS = {
    "digits": Dataset("Digits", tuple("0123456789"), (1437, 360), True, prepare_digits),
    "cifar10": Dataset("CIFAR10", CIFAR10_CLASSES, (50_000, 10_000), False, prepare_cifar10),
}


def main() -> int:
    """Exit status: 0 if the target is complete, 2 for an error, 130 after Ctrl-C."""
    parser = OneLineParser(prog="prepare_dataset.py", description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="NAME", choices=DATASETS, help=" or ".join(DATASETS))
    parser.add_argument("--source", type=Path, metavar="PATH", help="file, archive or folder on disk, for no download")
    parser.add_argument("--target", type=Path, metavar="DIR", help="folder to make (default: data/<dataset> here)")
    arguments = parser.parse_args()
    dataset = DATASETS[arguments.name]
    target = (arguments.target or REPOSITORY / "data" / dataset.folder).resolve()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up like Ctrl-C
    try:
        inventory = prepare(dataset, arguments.source, target)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; nothing was left behind", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {describe(error, target)}", file=sys.stderr)
        return 2
    print_table(inventory)
    print_config_lines(dataset, target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
