# SPDX-License-Identifier: Apache-2.0
"""Finds out in which layout a folder has pictures with boxes or masks, and opens it."""

from collections.abc import Sequence
from pathlib import Path

from core.annotated_images import AnnotatedImages
from core.coco_folders import find_splits, open_coco
from core.coco_folders import list_contents as list_coco
from core.split_names import split_and_rest
from core.voc_folders import has_xml, open_voc
from core.voc_folders import list_contents as list_voc


def open_source(
    folder: str, split: str, *, masks: bool = False, classes: Sequence[str] | None = None
) -> AnnotatedImages:
    """The images of a split with their boxes, or with `masks` instead; in the layout of Pascal VOC or COCO.

    `split`: as the folder calls it. `classes`: their names in the order of the labels, for a second split or for
    weights; the folder must have the same; None: in the folder's own order.
    What cannot be used is left out, with a line in `notes`. docs/annotated_folders.md has layouts and rules.
    Raises: FileNotFoundError, ValueError, in one line, if the layout is none of these, the classes are others, or
    nothing is left.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; correct data_dir in config.py")
    if find_splits(folder):
        return open_coco(folder, split, masks, classes)
    if is_voc(folder, split):
        return open_voc(folder, split, masks, classes)
    folders = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
    if splits := [name for name in folders if name.lower() != "annotations" and has_xml(f"{folder}/{name}")]:
        raise FileNotFoundError(
            f"{folder}/{split}: no folder with XML files; there are {', '.join(splits[:6])}; name one in config.py"
        )
    inside = [name for name in folders if is_voc(f"{folder}/{name}", split)]
    hint = f"; {folder}/{inside[0]} is one: name it" if inside else ""
    raise ValueError(
        f"{folder}: neither a folder of Pascal VOC (ImageSets, JPEGImages and Annotations or SegmentationClass) nor of "
        f"COCO (annotations/instances_{split}.json and the images in {split}, or "
        f"{split}/_annotations.coco.json beside them){hint}"
    )


def list_contents(folder: str) -> list[tuple[str, bool]]:
    """What open_source() can be asked for: (split, masks), the boxes first, of each what is called train first.

    Empty if the folder has none of the layouts.
    """
    order = ["train", "valid", "test", None]
    found = list_coco(folder) or list_voc(folder)
    return sorted(found, key=lambda each: (each[1], order.index(split_and_rest(each[0])[0]), each[0]))


def is_voc(folder: str, split: str) -> bool:
    """Whether there is a folder of VOC's layout, or of images with XML files beside them."""
    return any(Path(folder, name).is_dir() for name in ("ImageSets", "JPEGImages")) or has_xml(f"{folder}/{split}")
