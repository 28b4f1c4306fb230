# SPDX-License-Identifier: Apache-2.0
"""Making the splits that are missing in a target."""

import contextlib
import os

import cv2
from tqdm import tqdm

from core.plurals import counted
from preparing.archives import damage_named
from preparing.conversion import Conversion
from preparing.counts import Inventory, count_images, summarize
from preparing.datasets import published_total
from preparing.downloads import download
from preparing.jobs import Job
from preparing.sources import Source
from preparing.targets import OUTCOME, check_inventory, holds_anything
from preparing.work_folder import RECORD, read_json, write_json, write_samples


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
    names, turned = write_images(job, source)
    work.keep_only(names)
    made = {split: count_images(work.images / job.folders[split]) for split in splits}
    check_inventory(job, path, {**inventory, **made}, notes)
    if (found := sum(summarize(split)["images"] for split in made.values())) != len(names):
        raise ValueError(
            f"{work.images}: holds {counted(found, 'image', form=',')} where {len(names):,} were written, so names "
            "differ in upper and lower case only, which this file system does not tell apart; rename one of each and "
            "run again"
        )
    if turned:
        photos = counted(turned, "photo was", "photos were", form=",")
        source.notes.append(f"{photos} turned upright, as their camera noted")
    notes += source.notes
    inventory.update(made)
    os.sync()  # the record says that everything is on the disk
    write_record(job, splits, inventory, source.notes, turned)


def write_images(job: Job, source: Source) -> tuple[set[str], int]:
    """Write every image of a source into the work folder; gives their names, and how many were turned.

    Raises: ValueError, which names the source.
    """
    if any(job.conversion):
        limit_threads(job.conversion)
    turned, names = 0, set[str]()
    with damage_named(source.path), tqdm(desc=job.name, unit=" images", total=source.total, disable=None) as bar:
        try:
            for name, was_turned in write_samples(job.dataset.read(source), job.work, job.folders, job.conversion):
                turned += was_turned
                if name in names:  # only a name to which .jpg was appended can be there
                    raise ValueError(f"{name.removesuffix('.jpg')!r} and {name!r} get the same name; rename one")
                names.add(name)
                bar.total = source.total
                bar.update()
        except ValueError as error:
            raise error if str(source.path) in str(error) else ValueError(f"{source.path}: {error}") from error
    return names, turned


def write_record(job: Job, splits: list[str], inventory: Inventory, notes: list[str], turned: int) -> None:
    """Record what the target will hold and where it came from."""
    before = read_json(job.target / RECORD) or {}  # of the other split, if that was made earlier
    outcome = (
        {split: summarize(inventory[split]) for split in inventory},
        {**before.get("origins", {}), **{split: job.origin(split) for split in splits}},
        [*before.get("notes", []), *notes],
        before.get("turned", 0) + turned,
    )
    write_json(job.work.record, job.options() | dict(zip(OUTCOME, outcome, strict=True)))


def limit_threads(conversion: Conversion) -> None:
    """One thread an image: the images are what is done in parallel."""
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if conversion.short_side:
        import torch  # takes seconds

        torch.set_num_threads(1)
