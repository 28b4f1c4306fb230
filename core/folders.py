# SPDX-License-Identifier: Apache-2.0
"""Folders of <class>/<image>: their classes, their images, and what is doubtful about them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from core.image_names import IMAGE_SUFFIXES, describe_left_out, is_left_out, kind_of_name
from core.plurals import counted
from core.split_names import UNNAMED, split_names


def list_classes(root: str) -> list[str]:
    """The sorted names of the class folders; just the numbers 0 to C-1 or 1 to C come in the order of the numbers.

    Raises: FileNotFoundError if there is none.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{root}: no such folder; data/README.md says how to make each dataset")
    classes = visible_folders(root)
    if not classes:
        raise FileNotFoundError(f"{root}: no class folders; expected {root}/<class>/<image>")
    for first in (0, 1):
        numbers = [str(number) for number in range(first, first + len(classes))]
        if sorted(numbers) == classes:
            return numbers
    return classes


def visible_folders(folder: str) -> list[str]:
    """The sorted names of the folders in a folder, but for hidden ones."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def describe_order(classes: Sequence[str]) -> str:
    """A line about classes of list_classes() that come in the order of their numbers, as text does not; else ""."""
    if list(classes) == sorted(classes):
        return ""
    return f"class folders {classes[0]} ... {classes[-1]} are taken in the order of their numbers"


def check_classes(
    root: str, found: list[str], num_classes: int, expected: Sequence[str] | None, may_lack_classes: bool = False
) -> None:
    """Raise ValueError unless the class folders are the expected ones: otherwise labels shift silently."""
    doubt = describe_doubt(root, found)
    if len(expected or found) < 2:
        raise ValueError(
            f"{root}: one class folder, {shorten(found)}, and a classifier needs two; is this the folder above the "
            f"class folders{doubt}?"
        )
    if expected is not None:
        missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        if unknown or (missing and not may_lack_classes):
            raise ValueError(
                f"{root}: its class folders are not those of the training set: missing {missing[:3]}, unknown "
                f"{unknown[:3]} ({len(missing)} and {len(unknown)} in all){doubt}; name another folder, or correct "
                "the names of these"
            )
    elif len(found) != num_classes:
        raise ValueError(
            f"{root}: {counted(len(found), 'class folder')} ({shorten(found)}), but model_num_classes = {num_classes}; "
            f"are these the classes{doubt}? If so, set it to {len(found)}; if not, name the folder that holds the "
            "class folders"
        )
    elif has_splits(root, found):
        raise ValueError(
            f"{root}: splits among the class folders{doubt}; name the folder that holds the class folders, or rename "
            "a class that is really called so"
        )


def has_splits(root: str, found: list[str]) -> bool:
    """Whether two of the folders are called as splits are, or one that is holds folders called like those beside it."""
    splits = split_names(found)
    return len(splits) > 1 or any(set(found) & set(visible_folders(os.path.join(root, name))) for name in splits)


def unlikely_classes(found: list[str]) -> list[str]:
    """The folders that are called as splits are, or as the system calls a new folder."""
    splits = split_names(found)
    return [name for name in found if name in splits or UNNAMED.fullmatch(name)]


def describe_doubt(root: str, found: list[str]) -> str:
    """What speaks against taking these folders for classes, in brackets; "" if nothing does."""
    unlikely = unlikely_classes(found)
    reasons = [f"{shorten(unlikely)}: not names of classes"] if unlikely else []
    if unlikely or len(found) == 1:
        above = (unlikely or found)[0]
        inside = visible_folders(os.path.join(root, above))
        reasons += [f"the folders in {shorten([above])} are {shorten(inside)}"] if inside else []
    return f" ({'; '.join(reasons)})" if reasons else ""


def shorten(names: Sequence[str]) -> str:
    """The first three names, in one line that every terminal can show."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:3]]
    return ", ".join(shown) + (" ..." if len(names) > 3 else "")


def describe_folder(root: str, found: list[str], expected: Sequence[str] | None, left_out: Counter[str]) -> list[str]:
    """Lines about a folder that people should see: what is left out, the order of the classes, what is doubtful."""
    lines, held = [], set(found)
    missing = [name for name in expected or () if name not in held]
    if left_out:
        lines.append(f"left out {describe_left_out(left_out)}; the names of images end in {', '.join(IMAGE_SUFFIXES)}")
    if expected is None:
        lines += [order] if (order := describe_order(found)) else []
        unlikely = unlikely_classes(found)
        lines += [f"{shorten([name])} is taken for a class; if it is none, move it elsewhere" for name in unlikely]
    elif missing:
        share = f"of the weights' {len(expected)} classes"
        lines.append(
            f"{counted(len(found), f'{share} has', f'{share} have')} images here; {len(missing)} without: "
            f"{shorten(missing)}"
        )
    return [f"{root}: {line}" for line in lines]


def walk_class(class_dir: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield (folder, its images, its other visible files) for a class folder and all folders below it, by name.

    Raises: ValueError for a link back to a folder above it; OSError for a folder that cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error  # a folder that cannot be read would otherwise be left out silently

    above: dict[str, frozenset[tuple[int, int]]] = {class_dir: frozenset()}
    for folder, subfolders, files in os.walk(class_dir, onerror=fail, followlinks=True):
        status = os.stat(folder)
        inside = above.pop(folder) | {(status.st_dev, status.st_ino)}
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in subfolders:
            path = os.path.join(folder, name)
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in inside:
                raise ValueError(f"{path}: leads back to a folder above it; remove the link")
            above[path] = inside
        images = [file for file in files if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith(".")]
        yield folder, images, [file for file in files if is_left_out(file)]


def list_class(class_dir: str) -> tuple[list[bytes], Counter[str]]:
    """All below a class folder: the sorted names of images, relative to it, and the other visible files by suffix."""
    images: list[bytes] = []
    left_out: Counter[str] = Counter()
    for folder, files, others in walk_class(class_dir):
        prefix = os.path.relpath(folder, class_dir) + os.sep if folder != class_dir else ""
        images += [os.fsencode(prefix + file) for file in files]
        left_out.update(map(kind_of_name, others))
    return sorted(images), left_out


def list_images(class_dir: str) -> list[bytes]:
    """The sorted names of all images below a class folder, relative to it."""
    return list_class(class_dir)[0]
