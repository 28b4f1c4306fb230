# SPDX-License-Identifier: Apache-2.0
"""The reader for one's own photos."""

from collections import Counter
from collections.abc import Iterator

from preparing.archives import Parts, Readable, read_whole
from preparing.folder_layouts import Folder, Layout, find_layout
from preparing.sources import Sample, Source, is_image, note_left_out, require_rereadable, split_by_share, visible_files


def read_folder(source: Source) -> Iterator[Sample]:
    """Yield the images of class folders split by the share, or those of train and valid as they are.

    Raises: ValueError if it is not clear what the folders are.
    """
    require_rereadable(source)
    images, left_out = list_folder(source)
    try:
        layout = find_layout(Folder.of(images), source.path, source.test_as_valid)
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from error
    places = [place for parts in images if (place := layout.place(parts))]
    source.notes += [f"{source.path}: {note}" for note in layout.notes]
    note_left_out(source, len(images) - len(places), "outside class folders")
    if left_out:
        source.notes.append(f"{source.path}: left out {left_out}")
    placed = placed_images(source, layout)
    if "" in layout.splits.values():
        listing = ((class_name, name) for _, class_name, name in places)
        yield from split_by_share(source, listing, ((*place[1:], file) for place, file in placed))
        return
    source.total = len(places)
    for (split, class_name, name), file in placed:
        yield Sample(split, class_name, name, read_whole(source.path, (split, class_name, name), file))


def list_folder(source: Source) -> tuple[list[Parts], str]:
    """The names of all images, and the words for the files that are none. Raises: ValueError without an image."""
    from core.image_names import describe_left_out, is_left_out, kind_of_name

    images, left_out = [], Counter[str]()
    for parts, _ in folder_parts(source):
        if is_image(parts[-1]):
            images.append(parts)
        elif is_left_out(parts[-1]):
            left_out[kind_of_name(parts[-1])] += 1
    described = describe_left_out(left_out)
    if not images:
        raise ValueError(f"{source.path}: no images in it{f'; left out {described}' if described else ''}")
    return images, described


def folder_parts(source: Source) -> Iterator[tuple[Parts, Readable]]:
    """Yield every visible file, its name without the source's own."""
    above = 1 if source.path.is_dir() else 0
    return ((parts[above:], file) for parts, file in visible_files(source))


def placed_images(source: Source, layout: Layout) -> Iterator[tuple[tuple[str, str, str], Readable]]:
    """Yield the images in class folders: (split, class, name inside the class), open file."""
    for parts, file in folder_parts(source):
        if is_image(parts[-1]) and (place := layout.place(parts)):
            yield place, file
