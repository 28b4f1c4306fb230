# SPDX-License-Identifier: Apache-2.0
"""Folders in the layout of COCO: one JSON file for a split, with boxes, polygons and run lengths."""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.annotated_images import (
    IGNORED,
    LARGEST_SHARE,
    LOST,
    NOT_FINITE,
    SHARES,
    UNREADABLE,
    AnnotatedImages,
    Box,
    LeftOut,
    Objects,
    choose_classes,
    clip_box,
    finish,
    has_area,
    header_size,
    in_threads,
    is_background,
    pack_objects,
)
from core.coco_masks import NO_SHAPE, check_shape, draw_shape
from core.folders import shorten
from core.pixels import Image
from core.settings import is_int

MAX_JSON_BYTES = 2**30  # COCO's own have half of it; it takes about eight times as much memory to read


class Entry(NamedTuple):
    """An image of the file that is there."""

    path: str
    size: tuple[int, int]  # height, width
    annotations: list[dict[str, Any]]


class CocoImages(AnnotatedImages):
    """The images of a split; `shapes`: uint8, JSON of the objects' shapes one after the other, where masks are asked
    for, [place in the mask, polygons or run lengths] each, and where those of each image end."""

    has_crowds = True
    shapes: np.ndarray | None = None
    shape_ends: np.ndarray

    def read_mask(self, index: int, image: Image) -> np.ndarray | None:
        if self.shapes is None:
            return None
        mask = np.zeros(image.shape[:2], np.uint8)
        for place, shape in self.read_shapes(index):
            drawn = draw_shape(shape, image.shape[:2])
            mask[drawn] = np.where(mask[drawn] == 0, place, IGNORED)
        return mask

    def read_shapes(self, index: int) -> list[tuple[int, Any]]:
        """The shapes of an image, each after its place in the mask; only where masks were asked for."""
        assert self.shapes is not None
        shapes: list[tuple[int, Any]] = json.loads(
            self.shapes[self.shape_ends[index] : self.shape_ends[index + 1]].tobytes()
        )
        return shapes

    def class_counts(self) -> np.ndarray:
        """As of AnnotatedImages; of masks the shapes that are drawn as one of a class."""
        counts = super().class_counts()
        for index in range(len(self) if self.shapes is not None else 0):
            for place, _ in self.read_shapes(index):
                if place != IGNORED:
                    counts[index, place - 1] += 1
        return counts


def find_splits(folder: str) -> dict[str, Path]:
    """The file of each split in a folder, none if it has another layout."""
    inside = {path.parent.name: path for path in sorted(Path(folder).glob("*/_annotations.coco.json"))}
    beside = {path.stem.removeprefix("instances_"): path for path in Path(folder).glob("annotations/instances_*.json")}
    return inside | beside


def list_contents(folder: str) -> list[tuple[str, bool]]:
    """The splits of a folder, each with False for its boxes or True for its masks; none if it has another layout."""
    return [(split, masks) for split, path in sorted(find_splits(folder).items()) for masks in find_kinds(path)]


def find_kinds(path: Path) -> list[bool]:
    """False if a file has boxes, True if it has shapes; by a look, for reading it takes long: open_coco() knows.

    Many files have the names of both, with nothing behind one of them. If both have nothing, open_coco() says so.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_JSON_BYTES else b""
    except OSError:
        data = b""
    kinds = {False: rb'"bbox"', True: rb'"segmentation"'}
    behind = rb'\s*+:[\[\s]*+[^\[\]\s"n]'  # possessive: no run of spaces, however long, is tried twice
    return [masks for masks, name in kinds.items() if re.search(name + behind, data)] or [False]


def open_coco(folder: str, split: str, masks: bool = False, classes: Sequence[str] | None = None) -> CocoImages:
    """The images of a split with their boxes, or with their masks. `classes`: those of the training, in their order.

    Raises: FileNotFoundError, ValueError as core.annotated_folders.open_source().
    """
    splits = find_splits(folder)
    if split not in splits:
        there = ", ".join(sorted(splits)[:6])
        missing = f"{folder}/annotations/instances_{split}.json"
        raise FileNotFoundError(f"{missing}: no such file; there are {there}; name one in config.py")
    path = splits[split]
    content = read_json(path)
    left_out = LeftOut(f"{folder} ({split})")
    names = category_names(path, content, classes, left_out)
    own = [name for name in names.values() if not is_background(name)]
    chosen = choose_classes(own, classes, str(path), masks)
    labels = {number: chosen.index(name) if name in own else None for number, name in names.items()}
    entries = find_images(folder, split, path, content, left_out)
    assign_annotations(path, content, entries, left_out)
    if masks:
        source = with_masks(left_out, chosen, labels, list(entries.values()), path)
    else:
        source = with_boxes(left_out, chosen, labels, list(entries.values()), path)
    remedy = f"{path} must have images that are there, and annotations of its categories"
    finish(source, left_out, masks, remedy, remedy)
    return source


def read_json(path: Path) -> dict[str, Any]:
    """The file. Raises: ValueError if it is none, too large, or has no lists of images, annotations and categories."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path}: above {MAX_JSON_BYTES:,} bytes; divide it in several folders")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no readable JSON ({error}); make it again") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise ValueError(f"{path}: not a JSON object with lists of {', '.join(parts)}; export it as COCO instances")
    return content


def dictionaries(values: list[Any], path: Path, kind: str, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """Those of a list that are JSON objects; others are noted."""
    for value in values:
        if isinstance(value, dict):
            yield value
        else:
            left_out.add(str(path), f"{kind} that is no JSON object", type(value).__name__)


Labels = dict[int, int | None]  # of the classes by the ids of their categories; None: the background


def category_names(
    path: Path, content: dict[str, Any], classes: Sequence[str] | None, left_out: LeftOut
) -> dict[int, str]:
    """The name of each category by its id, in the order of the ids; one of the background is noted.

    Roboflow gives its files a category that is not a class but stands above all others. It is left out where no
    annotation has it, or where it is not among `classes`: all splits have it if that of the training does.
    """
    found: dict[int, dict[str, Any]] = {}
    for category in dictionaries(content["categories"], path, "a category", left_out):
        number, name = category.get("id"), category.get("name")
        if not isinstance(number, int) or not isinstance(name, str) or number in found:
            left_out.add(str(path), "a category without a name and an id of its own", f"{number!r}, {name!r}")
        else:
            found[number] = category
    used = {str(each.get("category_id")) for each in content["annotations"] if isinstance(each, dict)}
    for number, category in list(found.items()):
        others = [other for other in found.values() if other is not category]
        is_above = others and all(other.get("supercategory") == category["name"] for other in others)
        is_class = str(number) in used if classes is None else category["name"].strip() in classes
        if is_above and not is_class:
            del found[number]
    names = {number: found[number]["name"].strip() for number in sorted(found)}
    for name in filter(is_background, names.values()):
        left_out.add(str(path), "a category of the background", name, "no class, and its annotations no objects")
    return names


def find_images(
    folder: str, split: str, path: Path, content: dict[str, Any], left_out: LeftOut
) -> dict[int | str, Entry]:
    """The images of the file that are there and can be read, by their ids; the others are noted."""
    listed: dict[int | str, tuple[str, Any]] = {}
    files = set[str]()
    folders = [str(path.parent)] if path.name.startswith("_") else [f"{folder}/{split}", f"{folder}/images/{split}"]
    folders += [f"{folder}/images", folder]
    for image in dictionaries(content["images"], path, "an image", left_out):
        number, name = image.get("id"), image.get("file_name")
        if not isinstance(number, (int, str)) or not isinstance(name, str) or not is_inside(name):
            left_out.add(str(path), "an image without an id and the name of a file below the folder", f"{name!r}")
        elif number in listed or name in files:
            left_out.add(str(path), "an image that is there twice", f"{number!r}, {name!r}", "the first taken")
        else:
            places = [f"{place}/{name}" for place in folders]
            file = next((place for place in places if os.path.isfile(place)), places[0])
            files.add(name)
            listed[number] = file, (image.get("height"), image.get("width"))
    entries = {}
    sizes = in_threads(header_size, [file for file, _ in listed.values()])
    for (number, (file, said)), size in zip(listed.items(), sizes, strict=True):
        if isinstance(size, str):
            left_out.add(file, UNREADABLE, size)
        elif all(is_int(side, 1) for side in said) and said != size:
            shown = f"{size[1]} x {size[0]} pixels, not {said[1]} x {said[0]}"
            left_out.add(file, "an image of another size than its annotation says", shown)
        else:
            entries[number] = Entry(file, size, [])
    return entries


def is_inside(name: str) -> bool:
    """Whether a name leads to a file below a folder, on Linux and macOS: there a backslash is a character of a name."""
    return not {"..", ""} & set(name.split("/")) and "\0" not in name


def assign_annotations(path: Path, content: dict[str, Any], entries: dict[int | str, Entry], left_out: LeftOut) -> None:
    """Give each image its annotations; of the images that are left out there are none."""
    numbers = {image.get("id") for image in content["images"] if isinstance(image, dict) and is_id(image.get("id"))}
    for annotation in dictionaries(content["annotations"], path, "an annotation", left_out):
        number = annotation.get("image_id")
        if is_id(number) and number in entries:
            entries[number].annotations.append(annotation)
        elif not is_id(number) or number not in numbers:
            left_out.add(str(path), "an annotation of an image that is not listed", f"image_id {number!r}")


def is_id(value: object) -> bool:
    return isinstance(value, (int, str))


def label_of(annotation: dict[str, Any], labels: Labels, path: Path, left_out: LeftOut) -> int | None:
    """The label of an annotation; None for the background, and, noted, where its category is unknown."""
    number = annotation.get("category_id")
    if isinstance(number, int) and number in labels:
        return labels[number]
    left_out.add_class(str(path), f"category_id {number!r}")
    return None


def read_objects(entry: Entry, labels: Labels, path: Path, left_out: LeftOut) -> Objects:
    """The boxes of an image, x, y, width and height in the file; what cannot be is noted."""
    kept = []
    for annotation in entry.annotations:
        label = label_of(annotation, labels, path, left_out)
        box = read_box(annotation.get("bbox"))
        if label is None:
            continue
        if box is None:
            left_out.add(entry.path, NOT_FINITE, f"bbox {annotation.get('bbox')!r}")
        elif clipped := clip_box(box, entry.size, entry.path, left_out):
            kept.append((clipped, label, is_crowd(annotation)))
    return pack_objects(*zip(*kept, strict=True)) if kept else pack_objects([], [], [])


def read_box(value: object) -> Box | None:
    """A box as in Objects, or None where there is none."""
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(side, (int, float)) for side in value):
        return None
    try:
        x, y, width, height = map(float, value)
    except OverflowError:  # an int that no float holds
        return None
    return (x, y, x + width, y + height) if all(map(math.isfinite, (x, y, x + width, y + height))) else None


def is_crowd(annotation: dict[str, Any]) -> bool:
    return annotation.get("iscrowd") in (1, True, "1")


def outline_of(annotation: dict[str, Any], size: tuple[int, int]) -> list[list[float]] | None:
    """The polygon around the part of an object's box in an image of `size` (height, width), if there is one."""
    x0, y0, x1, y1 = read_box(annotation.get("bbox")) or (0.0, 0.0, 0.0, 0.0)
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(size[1])), min(y1, float(size[0]))
    return [[x0, y0, x1, y0, x1, y1, x0, y1]] if has_area((x0, y0, x1, y1)) else None


def with_boxes(
    left_out: LeftOut, classes: Sequence[str], labels: Labels, entries: Sequence[Entry], path: Path
) -> CocoImages:
    """The source of boxes."""
    objects = [read_objects(entry, labels, path, left_out) for entry in entries]
    files, sizes = [entry.path for entry in entries], [entry.size for entry in entries]
    return CocoImages(left_out.root, classes, files, sizes, objects)


def with_masks(
    left_out: LeftOut, classes: Sequence[str], labels: Labels, entries: Sequence[Entry], path: Path
) -> CocoImages:
    """The source of masks; 255 stands for a crowd, and for the box of a shape that cannot be drawn, which is noted.

    Raises: ValueError if none can be drawn, or all are shares.
    """
    texts, reasons, num_drawn, largest = [], set(), 0, 0.0
    for entry in entries:
        shapes = []
        for annotation in entry.annotations:
            label, shape = label_of(annotation, labels, path, left_out), annotation.get("segmentation")
            if label is None:
                continue
            if reason := check_shape(shape, entry.size):
                outline = outline_of(annotation, entry.size)
                shapes += [[IGNORED, outline]] if outline else []
                done = "its box is ignored" if outline else LOST
                left_out.add(entry.path, "an object whose shape cannot be drawn", reason, done)
                reasons.add(reason)
            else:
                shapes.append([IGNORED if is_crowd(annotation) else 1 + label, shape])
                num_drawn += 1
                largest = max([largest, *map(max, shape)]) if isinstance(shape, list) else largest
        texts.append(json.dumps(shapes, separators=(",", ":")).encode())
    if entries and not num_drawn:
        remedy = "export the shapes of the objects"
        reason = remedy if reasons == {NO_SHAPE} else left_out.why_none_is_left(remedy)
        raise ValueError(f"{path}: no polygons or run lengths of {shorten(classes)}; {reason}")
    if 0 < largest <= LARGEST_SHARE:
        raise ValueError(f"{path}: its polygons are {SHARES}")
    none = pack_objects([], [], [])
    files, sizes = [entry.path for entry in entries], [entry.size for entry in entries]
    source = CocoImages(left_out.root, classes, files, sizes, [none] * len(entries))
    source.shapes = np.frombuffer(b"".join(texts), np.uint8)
    source.shape_ends = np.cumsum([0, *map(len, texts)])
    return source
