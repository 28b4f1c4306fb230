# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC from its published archives, in its own layout: boxes and masks, which detection and segmentation read."""

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from preparing import datasets
from preparing.archives import DigestReader, Parts, Readable, damage_named, read_whole, tar_files
from preparing.downloads import VOC_ARCHIVES, download, published_files
from preparing.jobs import identify
from preparing.targets import MOVE_AWAY, holds_anything
from preparing.work_folder import RECORD, WorkFolder, read_json, write_json

KEPT = ("Annotations", "ImageSets", "JPEGImages", "SegmentationClass")
FOLDERS = {name: name.upper() for name in VOC_ARCHIVES}  # "VOC2007", in the archives and below data/
TEST_SPLITS = {"voc2007": "test", "voc2012": "val"}  # of 2012 the boxes and masks for testing were never published


def prepare(arguments: argparse.Namespace) -> list[str]:
    """Unpack a release into its target; gives the lines that tell of it. Raises: OSError, ValueError for users."""
    name = arguments.name
    for option in ("short_side", "valid_share", "seed", "test_as_valid"):
        if getattr(arguments, option):
            raise ValueError(f"--{option.replace('_', '-')}: {name} stays as it is published; leave the option out")
    target: Path = (arguments.target or datasets.DATA / FOLDERS[name]).resolve()
    work = WorkFolder(target)
    if work.record.exists():  # killed when everything was made: only the names are missing
        with work.locked():
            work.publish()
    record = read_json(target / RECORD)
    if record is None and (target.is_file() or holds_anything(target)):
        raise ValueError(f"{target}: is there, but not made by this command; {MOVE_AWAY}")
    if record is not None:
        check_target(name, target, record)
        return [f"{target}: there already, nothing to do", *config_lines(name, target)]
    counts = unpack_all(name, arguments.source, work)
    shown = ", ".join(f"{count:,} in {folder}" for folder, count in counts.items())
    return [f"{target}: complete; files: {shown}", *config_lines(name, target)]


def check_target(name: str, target: Path, record: dict[str, Any]) -> None:
    """Raise ValueError if a target is of another dataset, or not whole any more."""
    if record.get("name") != name:
        raise ValueError(f"{target}: was made with name = {record.get('name')!r}, not {name!r}; {MOVE_AWAY}")
    for folder, count in record.get("files", {}).items():
        found = sum(path.is_file() for path in (target / folder).rglob("*"))
        if found < count:
            raise ValueError(f"{target / folder}: {found:,} of {count:,} files; {MOVE_AWAY}")


def unpack_all(name: str, source: Path | None, work: WorkFolder) -> dict[str, int]:
    """Fill the target with the files of all archives of a release; gives how many are in each folder."""
    if source is not None and not source.exists():
        raise FileNotFoundError(f"--source {source}: no such file or folder; check the path")
    if source is not None and not source.is_dir() and len(published_files(name)) > 1:
        names = " and ".join(file.file_name for file in published_files(name))
        raise ValueError(f"--source {source}: a file, and {name} has several; name the folder with {names}")
    with work.locked():
        try:
            work.begin({"name": name, "source": identify(source) if source else []})
            place = source or download(name, work.downloads)
            for file in published_files(name):
                archive = place / file.file_name if place.is_dir() else place
                unpack(archive, file.md5, FOLDERS[name], work.images)
            counts = Counter(
                path.relative_to(work.images).parts[0] for path in work.images.rglob("*") if path.is_file()
            )
            files = {folder: counts[folder] for folder in KEPT if counts[folder]}
            os.sync()  # the record says that everything is on the disk
            write_json(work.record, {"name": name, "files": files})
            work.publish()
        except ValueError:
            work.remove()  # another archive would be another source
            raise
        except OSError:  # no network, a missing archive
            if not work.has_progress():
                work.remove()
            raise
    return files


def unpack(archive: Path, md5: str, folder: str, target: Path) -> None:
    """Write what an archive has below VOCdevkit/<folder> into the target.

    Raises: FileNotFoundError; ValueError if it is not the published archive, when its last byte has been read.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"{archive}: no such file; name the folder of the published archives with --source")
    with archive.open("rb") as file, damage_named(archive), tqdm(desc=archive.name, unit=" files", disable=None) as bar:
        reader = DigestReader(file)
        for parts, member in tar_files(archive, reader):
            if parts[:2] == ("VOCdevkit", folder) and len(parts) > 3 and parts[2] in KEPT:
                write_member(target, archive, parts[2:], member)
                bar.update()
        while reader.read(2**20):
            pass
    found = reader.digest.hexdigest()
    if found != md5:
        raise ValueError(f"{archive}: its MD5 is {found}, the published one {md5}; get the file again")


def write_member(target: Path, archive: Path, parts: Parts, member: Readable) -> None:
    """Write one file; tar_files() has refused names that lead elsewhere."""
    path = target.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(read_whole(archive, parts, member))


def config_lines(name: str, target: Path) -> list[str]:
    """What to set to train on it."""
    is_inside = target.parent == datasets.DATA.resolve()
    folder = f"./data/{target.name}" if is_inside else str(target)
    splits = {"data_dir": folder, "train_split": "train", "valid_split": "val", "test_split": TEST_SPLITS[name]}
    values = splits | {"model_num_classes": 21}
    lines = [f"  {key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return [
        "",
        "segmentation/config.py, to use it; detection/config.py has names for the folder and splits too:",
        *lines,
    ]
