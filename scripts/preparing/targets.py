# SPDX-License-Identifier: Apache-2.0
"""What a target holds already, and whether the command would make the same."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.plurals import counted
from preparing.counts import Inventory, count_images, summarize
from preparing.jobs import Job
from preparing.sources import SPLITS
from preparing.work_folder import RECORD, read_json, write_json

MOVE_AWAY = "move it away and run again, or choose another --target"
OUTCOME = ("splits", "origins", "notes", "turned")  # what RECORD has beside the options of the run


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
    count = counted(abs(more), "image", form=",")
    what = f"{count} {'more' if more > 0 else 'fewer'}" if more else "other images"
    return f"with {what} than when it was made; record and index are renewed"


def making_anew(job: Job, splits: Iterable[str]) -> str:
    """How to make some splits again."""
    folders = [job.target / job.folders[split] for split in splits] if job.dataset.split_archives else [job.target]
    return f"{shlex.join(['rm', '-r', *map(str, folders)])}, then the same command, makes it anew"


def other_sources(job: Job, record: dict[str, Any]) -> dict[str, str]:
    """The splits that were made from another source than the one named now, or from what it was: split -> words."""
    old = {}
    for split, was in record.get("origins", {}).items() if job.is_source_named else ():
        now = job.origin(split)
        is_archive_gone = job.dataset.split_archives and len(now) == 1  # it is not needed any more
        if now != was and not is_archive_gone:
            old[split] = "a download" if not was else was[0] if was[0] != now[0] else f"{was[0]} before it was changed"
    return old


def check_options(job: Job, record: dict[str, Any] | None) -> None:
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
            count = counted(images, "image", form=",")
            notes_of_images.append(f"{count} in {split}, the published dataset has {published:,}")
    if not all_classes:
        raise ValueError(f"{where}: no images of {job.name} in it")
    total = sum(summarize(classes)["images"] for classes in inventory.values())
    if isinstance(dataset.images, int) and total != dataset.images:
        notes_of_images.append(f"{counted(total, 'image', form=',')}, the published dataset has {dataset.images:,}")
    if notes_of_images and dataset.is_fixed:
        raise ValueError(f"{where}: {notes_of_images[0]}")
    if isinstance(dataset.classes, int) and len(all_classes) != dataset.classes:
        count = counted(len(all_classes), "class", "classes", form=",")
        notes.append(f"{count}, the published dataset has {dataset.classes:,}")
    notes += notes_of_images
