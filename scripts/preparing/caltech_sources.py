# SPDX-License-Identifier: Apache-2.0
"""The readers for Caltech-101 and Caltech-256."""

from collections.abc import Iterator

from preparing.archives import ForwardReader, Parts, Readable, tar_files
from preparing.sources import (
    Sample,
    Source,
    is_hidden,
    is_image,
    note_left_out,
    require_rereadable,
    split_by_share,
    visible_files,
)


def read_caltech101(source: Source) -> Iterator[Sample]:
    """Yield 101_ObjectCategories/<class>/<image> without BACKGROUND_Google, split by the share."""
    return read_caltech(source, "101_ObjectCategories", "BACKGROUND_Google")


def read_caltech256(source: Source) -> Iterator[Sample]:
    """Yield 256_ObjectCategories/<class>/<image> without 257.clutter, split by the share."""
    return read_caltech(source, "256_ObjectCategories", "257.clutter")


def read_caltech(source: Source, top: str, background: str) -> Iterator[Sample]:
    """Yield the images below the folder `top`. Raises: ValueError if there is none."""
    require_rereadable(source)
    listing = ((class_name, file_name) for class_name, file_name, _ in caltech_images(source, top, background))
    yield from split_by_share(source, listing, caltech_images(source, top, background))


def caltech_images(source: Source, top: str, background: str) -> Iterator[tuple[str, str, Readable]]:
    """Yield (class, file name, open file) of the images right in their class folders, also of a <top>.tar.gz inside.

    Raises: ValueError if there is no folder of that name.
    """
    found, left_out = False, {"of the class " + background: 0, "or other files, not <class>/<image>": 0}
    for parts, file in caltech_files(source, top):
        if top not in parts[:-1]:
            continue
        found, below = True, parts[parts.index(top) + 1 :]
        if below[0] == background:
            left_out["of the class " + background] += 1
        elif len(below) == 2 and is_image(below[1]):
            yield *below, file
        else:
            left_out["or other files, not <class>/<image>"] += 1
    if not found:
        raise ValueError(f"{source.path}: holds no {top}; name the archive or folder that data/README.md describes")
    if source.total is not None:  # a first pass, which only counts, would say it too
        for where, count in left_out.items():
            note_left_out(source, count, where)


def caltech_files(source: Source, top: str) -> Iterator[tuple[Parts, Readable]]:
    """Yield the files of the source, those of a packed <top> inside it among them."""
    for parts, file in visible_files(source):
        if parts[-1] in (f"{top}.tar.gz", f"{top}.tar"):
            inner_files = tar_files(f"{source.path}: {parts[-1]}", ForwardReader(file))
            yield from ((inner, image) for inner, image in inner_files if not is_hidden(inner))
        else:
            yield parts, file
