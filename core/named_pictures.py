# SPDX-License-Identifier: Apache-2.0
"""The pictures that a command names, one by one or as folders: found, read, and told where that fails."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from core.image_files import decode_image, read_bytes, read_orientation
from core.image_names import IMAGE_SUFFIXES, describe_left_out, is_left_out, kind_of_name
from core.pixels import Image

Describe = Callable[[Exception], str | None]  # utils.describe_error()


def find_images(arguments: list[str]) -> list[Path]:
    """The named files, and the images in the named folders in sorted order; a line on stderr about other files there.

    Of several arguments those that are not there, and folders without images, are left to read_each().
    Raises: FileNotFoundError for a single one.
    """
    images = []
    for path in map(Path, arguments):
        try:
            images += find_in(path)
        except FileNotFoundError:
            if len(arguments) == 1:
                raise
            images.append(path)
    return images


def find_in(path: Path) -> list[Path]:
    """The file, or the images in the folder, and the line. Raises: FileNotFoundError if there is neither."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such image or folder")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("[!.]*") if not file.is_dir())  # also a link to nothing, to name it
    inside = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    left_out = Counter(kind_of_name(file.name) for file in files if is_left_out(file.name))
    if not inside:
        instead = f", but {describe_left_out(left_out)}" if left_out else ""
        raise FileNotFoundError(f"{path}: no images in this folder ({', '.join(IMAGE_SUFFIXES)}){instead}")
    if left_out:
        print(f"{path}: left out {describe_left_out(left_out)}", file=sys.stderr)
    return inside


def load_picture(path: Path, left_turned: str, apply_orientation: bool = False) -> Image:
    """Decode a picture; a line on stderr, which ends with `left_turned`, if that leaves it turned or mirrored.

    Raises: ValueError, OSError.
    """
    data = read_bytes(path)
    image = decode_image(data, path, apply_orientation)
    if not apply_orientation and (orientation := read_orientation(data)) != 1:
        how = "mirrored" if orientation == 2 else "upside down" if orientation in (3, 4) else "on its side"
        print(f"{path}: stored {how} (camera orientation {orientation}), {left_turned}", file=sys.stderr)
    return image


def read_each(images: list[Path], load: Callable[[Path], Image], describe: Describe) -> Iterator[tuple[Path, Image]]:
    """Each picture that can be read; of several, those that cannot are named after the last, with status 1.

    Raises: ValueError or OSError for a single one that cannot be read.
    """
    unreadable = []
    for path in images:
        try:
            if path.is_dir() or not os.path.lexists(path):
                find_in(path)  # which says what is wrong
            image = load(path)
        except (ValueError, OSError) as error:
            if len(images) == 1:
                raise
            unreadable.append(describe(error))
            continue
        yield path, image
    if unreadable:
        sys.stdout.flush()
        print(f"{len(unreadable)} of {len(images)} pictures could not be read:", *unreadable, sep="\n", file=sys.stderr)
        sys.exit(1)
