# SPDX-License-Identifier: Apache-2.0
"""Folders in the layout of Pascal VOC: an XML file of boxes for each image, and masks as PNG files of indices."""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.annotated_images import (
    IGNORED,
    UNREADABLE,
    AnnotatedImages,
    Box,
    LeftOut,
    choose_classes,
    clip_box,
    finish,
    header_size,
    in_threads,
    is_background,
    pack_objects,
)
from core.folders import shorten, visible_folders
from core.image_names import IMAGE_SUFFIXES
from core.pixels import Image
from core.split_names import split_names
from core.voc_masks import indices_in, mask_size, read_indices

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
MAX_XML_BYTES, MAX_LIST_BYTES = 2**22, 2**26  # ten thousand objects, and over a million names


class Found(NamedTuple):
    """An image of a split, and the file that tells of it."""

    image: str
    annotation: str


Corners = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax as in a file: from 1, the last pixel inside


class Annotation(NamedTuple):
    """What an XML file says."""

    size: tuple[int, int]  # height, width; 0 where it does not say
    objects: list[tuple[str, Corners, bool]]  # name, box, difficult


class VocImages(AnnotatedImages):
    """The images of a split; of masks `places`, uint8 [256], what each index in their files stands for here, and
    `seen`, bool [N, C], which classes each has."""

    masks: np.ndarray | None = None  # their files, str [N]
    places: np.ndarray
    seen: np.ndarray

    def read_mask(self, index: int, image: Image) -> np.ndarray | None:
        if self.masks is None:
            return None
        path = str(self.masks[index])
        if mask_size(path) != image.shape[:2]:
            raise ValueError(f"{path}: no longer of the size of its image; run again")
        mask: np.ndarray = self.places[read_indices(path)]
        return mask

    def class_counts(self) -> np.ndarray:
        """As of AnnotatedImages; a mask of indices does not tell objects of one class apart: at most 1."""
        return super().class_counts() if self.masks is None else self.seen.astype(np.int32)


def open_voc(folder: str, split: str, masks: bool = False, classes: Sequence[str] | None = None) -> VocImages:
    """The images of a split with their boxes, or with their masks. `classes`: those of the training, in their order.

    Raises: FileNotFoundError, ValueError as core.annotated_folders.open_source().
    """
    root = f"{folder} ({split})"
    left_out = LeftOut(root)
    named = read_classes(folder)
    own_classes = list(VOC_CLASSES) if named is None else named
    chosen = choose_classes(own_classes, classes, folder, masks)
    found = find_images(folder, split, masks, left_out)
    sizes = in_threads(header_size, [each.image for each in found])
    sound = []
    for each, size in zip(found, sizes, strict=True):
        if isinstance(size, str):
            left_out.add(each.image, UNREADABLE, size)
        else:
            sound.append((each, size))
    if masks:
        source = with_masks(root, own_classes, chosen, sound, left_out)
        place = f"a mask with a class in it, {folder}/SegmentationClass/NAME.png"
    else:
        source = with_boxes(root, chosen, sound, left_out)
        place = f"an annotation, {folder}/Annotations/NAME.xml"
    source.remedy = name_classes(folder)
    of_images = f"the list of a split names images that are there, each with {place}"
    finish(source, left_out, masks, of_images, f"{source.remedy}, without the background")
    if masks and named is None and not source.seen.any(axis=0).all():  # a mask has no names
        source.notes.append(
            f"{root}: its classes are taken to be Pascal VOC's twenty, of which it has not all; if they are others, "
            f"{name_classes(folder)}"
        )
    return source


Sound = Sequence[tuple[Found, tuple[int, int]]]  # with height and width


def with_boxes(root: str, classes: Sequence[str], images: Sound, left_out: LeftOut) -> VocImages:
    """The source of boxes; images whose XML file cannot be used are noted."""
    labels = {name: label for label, name in enumerate(classes)}
    annotations = in_threads(read_annotation, [found.annotation for found, _ in images])
    files, sizes, objects = [], [], []
    for (found, size), annotation in zip(images, annotations, strict=True):
        path = found.annotation
        if isinstance(annotation, str):
            left_out.add(path, "an annotation that cannot be used", annotation)
            continue
        if all(annotation.size) and annotation.size != size:
            said, is_now = (f"{width} x {height}" for height, width in (annotation.size, size))
            left_out.add(path, "its image has another size than it says", f"{is_now} pixels, not {said}")
            continue
        kept = []
        for name, in_file, is_difficult in annotation.objects:
            if is_background(name):
                left_out.add(path, "an object of the background", name)
            elif name not in labels:
                left_out.add_class(path, name)
            elif clipped := clip_box(box_of(in_file), size, path, left_out, in_file):
                kept.append((clipped, labels[name], is_difficult))
        files.append(found.image)
        sizes.append(size)
        objects.append(pack_objects(*zip(*kept, strict=True)) if kept else pack_objects([], [], []))
    return VocImages(root, classes, files, sizes, objects)


def with_masks(
    root: str, own_classes: Sequence[str], classes: Sequence[str], images: Sound, left_out: LeftOut
) -> VocImages:
    """The source of masks, each of which is read once to know that it can be; those that cannot are noted.

    Raises: ValueError if no class is in any.
    """
    places = np.full(256, IGNORED, np.uint8)
    places[0] = 0
    places[1 : 1 + len(own_classes)] = [1 + classes.index(name) for name in own_classes]
    sizes = {found.annotation: size for found, size in images}
    kept, seen = [], []
    found_indices = in_threads(lambda path: indices_in(path, sizes[path]), sizes)
    for (found, size), indices in zip(images, found_indices, strict=True):
        if isinstance(indices, str):
            left_out.add(found.annotation, "a mask that cannot be used", indices)
            continue
        if note_mask(found.annotation, places[indices], indices.tolist(), len(own_classes), left_out):
            kept.append((found, size))
            seen.append(np.isin(np.arange(1, 1 + len(classes)), places[indices]))
    none = pack_objects([], [], [])
    files = [found.image for found, _ in kept]
    source = VocImages(root, classes, files, [size for _, size in kept], [none] * len(kept))
    source.masks, source.places = np.array([found.annotation for found, _ in kept]), places
    source.seen = np.array(seen, bool).reshape(-1, len(classes))
    missing = [name for name in own_classes if not source.seen[:, classes.index(name)].any()]
    if kept and len(missing) == len(own_classes):
        raise ValueError(
            f"{root}: no mask has an index of a class; 1 stands for {shorten(own_classes[:1])}, and so on, 0 for the "
            f"background, {IGNORED} for what does not count"
        )
    if missing:
        source.notes.append(f"{root}: no pixel of {len(missing)} of the classes: {shorten(missing)}")
    return source


def note_mask(path: str, values: np.ndarray, indices: list[int], num_classes: int, left_out: LeftOut) -> bool:
    """Note what is odd in a mask; whether it has a pixel that counts. `values`: what its indices stand for."""
    shown = shorten([str(index) for index in indices])
    if (values == IGNORED).all():
        left_out.add(path, "a mask in which every pixel is ignored", shown)
        return False
    unknown = [str(index) for index in indices if num_classes < index < IGNORED]
    if unknown:
        kind = f"an index above {num_classes}, the number of the classes, in the mask"
        left_out.add(path, kind, shorten(unknown), "taken as ignored")
    if indices == [0, IGNORED]:
        left_out.add(path, f"a mask of 0 and {IGNORED} alone", done=f"taken so: {IGNORED} is ignored")
    return True


def find_images(folder: str, split: str, masks: bool, left_out: LeftOut) -> list[Found]:
    """The images of a split that are there, with the paths of their annotations or masks, which may not be."""
    images, told, suffix = f"{folder}/JPEGImages", f"{folder}/Annotations", ".xml"
    if masks:
        told, suffix = f"{folder}/SegmentationClass", ".png"
    if not os.path.isdir(f"{folder}/ImageSets") and not masks and has_xml(f"{folder}/{split}"):
        images = told = f"{folder}/{split}"  # as Roboflow writes it
        listing = list_images(images, left_out)
        names = list(listing)
    else:
        names = read_split(folder, split, masks)
        listing = list_images(images, left_out)
    found: dict[str, Found] = {}
    for name in names:
        stem = name if name in listing else without_suffix(name)
        if stem not in listing:
            left_out.add(f"{images}/{name[:100]}", "an image of the split that is not there")
        elif stem in found:
            left_out.add(f"{images}/{listing[stem]}", "an image that the split has twice", done="taken once")
        else:
            found[stem] = Found(f"{images}/{listing[stem]}", f"{told}/{stem}{suffix}")
    return list(found.values())


def has_xml(folder: str) -> bool:
    return os.path.isdir(folder) and any(name.lower().endswith(".xml") for name in os.listdir(folder))


def has_pairs(folder: str) -> bool:
    """Whether an image of a folder has an XML file beside it."""
    try:
        names = os.listdir(folder)
    except OSError:  # of class folders, which others report
        return False
    told = {os.path.splitext(name)[0] for name in names if name.lower().endswith(".xml")}
    return any(name.lower().endswith(IMAGE_SUFFIXES) and without_suffix(name) in told for name in names)


def list_images(folder: str, left_out: LeftOut) -> dict[str, str]:
    """The images below a folder, by their names without suffix: nothing else is ever opened, whatever files name."""
    listing: dict[str, str] = {}
    for above, _, files in sorted(os.walk(folder)):
        for file in sorted(files):
            if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith("."):
                name = os.path.relpath(os.path.join(above, file), folder)
                stem = without_suffix(name)
                if stem in listing:
                    left_out.add(f"{folder}/{name}", "a second image of one name", listing[stem])
                listing.setdefault(stem, name)
    return listing


def without_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def list_contents(folder: str) -> list[tuple[str, bool]]:
    """The splits of a folder, each with False for its boxes or True for its masks; none if it has another layout.

    Folders with XML files beside images are splits where one is called so: class folders may have such files, too.
    """
    lists, images, *told = (Path(folder, n) for n in ("ImageSets", "JPEGImages", "Annotations", "SegmentationClass"))
    if not lists.is_dir():
        beside = [name for name in visible_folders(folder) if has_pairs(f"{folder}/{name}")]
        if split_names(beside):
            return [(name, False) for name in beside]
        if not images.is_dir():
            return []
    kinds = [masks for masks in (False, True) if told[masks].is_dir()]
    found = [(split, masks) for masks in kinds or (False, True) for split in list_splits(folder, masks)]
    return found or [("train", kinds == [True])]  # which says what to write


def list_splits(folder: str, masks: bool) -> list[str]:
    """The lists of images in ImageSets. Pascal VOC has lists of a class beside them, aeroplane_train: they say of each
    image whether it has one, -1, 0 or 1."""
    splits = []
    for path in sorted(Path(folder, "ImageSets", "Segmentation" if masks else "Main").glob("[!.]*.txt")):
        with path.open("rb") as file:
            is_of_class = "_" in path.stem and re.fullmatch(rb"\S+\s+(-1|0|1)\s*", file.readline(1000))
        if not is_of_class:
            splits.append(path.stem)
    return splits


def read_split(folder: str, split: str, masks: bool) -> list[str]:
    """The names in the list of a split. Raises: FileNotFoundError that says what to write."""
    lists = Path(folder, "ImageSets", "Segmentation" if masks else "Main")
    path = lists / f"{split}.txt"
    if not path.is_file():
        there = list_splits(folder, masks)
        others = f"; there are {', '.join(there[:6])}; name one in config.py, or" if there else ";"
        raise FileNotFoundError(
            f"{path}: no such file{others} write it: the names of the images in {folder}/JPEGImages that are "
            f"{split}, one a line, without suffix"
        )
    return [line.strip('"') for line in read_lines(path)]


def class_list(folder: str) -> Path:
    """The text that names the classes of a folder, or would."""
    own, cvat = Path(folder, "classes.txt"), Path(folder, CVAT_LIST)
    return cvat if cvat.is_file() and not own.is_file() else own


CVAT_LIST = "labelmap.txt"


def read_classes(folder: str) -> list[str] | None:
    """The lines of classes.txt, or the names in CVAT's labelmap.txt, but for the background; None without a file."""
    path = class_list(folder)
    if not path.is_file():
        return None
    names = read_lines(path)
    if path.name == CVAT_LIST:
        names = [line.partition(":")[0].strip() for line in names if not line.startswith("#")]
    return [name for name in names if not is_background(name)]


def name_classes(folder: str) -> str:
    """What to do where the classes of a folder are not those that are there."""
    return f"name the classes in {class_list(folder)}, one a line"


def read_lines(path: Path) -> list[str]:
    """The lines of a text that are not empty. Raises: ValueError if it is none, or far too long."""
    if path.stat().st_size > MAX_LIST_BYTES:
        raise ValueError(f"{path}: above {MAX_LIST_BYTES:,} bytes; it should have a name a line")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except ValueError as error:
        raise ValueError(f"{path}: not a text in UTF-8 ({error}); save it as one") from error
    return [line.strip() for line in lines if line.strip()]


def read_annotation(path: str) -> Annotation:
    """What an XML file says; a box with a coordinate that is no number has NaN there.

    Raises: OSError; ValueError, in words, if it cannot be read. A file with a DOCTYPE is refused unread: it can define
    entities that expand to gigabytes. So is one with NUL, of which UTF-16 is full, where it would be spelled otherwise.
    """
    if os.path.getsize(path) > MAX_XML_BYTES:
        raise ValueError(f"above {MAX_XML_BYTES:,} bytes")
    data = Path(path).read_bytes()
    if b"<!DOCTYPE" in data or b"\0" in data:
        raise ValueError("a DOCTYPE or UTF-16, which are not read")
    try:
        root = ET.fromstring(data)
    except (ET.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"no readable XML: {error}") from error
    if root.tag != "annotation":
        raise ValueError(f"begins with <{root.tag[:40]}>, not <annotation>")
    height, width = (read_number(root.findtext(f"size/{side}")) for side in ("height", "width"))
    size = int(height) if height > 0 else 0, int(width) if width > 0 else 0
    return Annotation(size, [read_object(element) for element in root.findall("object")])


def read_object(element: ET.Element) -> tuple[str, Corners, bool]:
    """As in Annotation; some tools write coordinates with fractions."""
    x0, y0, x1, y1 = (read_number(element.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    is_difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
    return (element.findtext("name") or "").strip(), (x0, y0, x1, y1), is_difficult


def box_of(in_file: Corners) -> Box:
    """The box of an object: its coordinates in the file count from 1, and the last pixel is inside."""
    x0, y0, x1, y1 = in_file
    is_turned = x1 < x0 or y1 < y0  # to be left out even where it is by less than the pixel that follows
    return (x0 - 1, y0 - 1, x1 - 1, y1 - 1) if is_turned else (x0 - 1, y0 - 1, x1, y1)


def read_number(text: str | None) -> float:
    """NaN for what is no number, or none below a billion."""
    try:
        value = float(text or "")
    except ValueError:
        return float("nan")
    return value if abs(value) < 1e9 else float("nan")
