#!/bin/bash
# pillow-jxl-plugin saves the JPEG file that a picture came from, instead of what was made of the picture since.
#
# Expected: save() writes the pixels that the picture has, in the size that it has, as it does for every other format.
# Seen with pillow-jxl-plugin 1.3.8 and Pillow 13.0.0: a picture opened from a .jpg file that was changed in place
# (thumbnail(), paste(), ImageDraw) goes into the .jxl file as the .jpg file lies on the disk: in its old size, without
# what was drawn. A warning says that the file is made by JPEG reconstruction, but not that changes are lost; with
# lossless_jpeg=True not even that is said. What resize(), crop() or copy() return is right.
# Why it matters: thumbnail() is the usual way to make pictures smaller, so that a data set keeps its full size; and
# faces or names that were painted over are back.
# Without it: save(..., lossless_jpeg=False).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pillow-jxl-plugin==1.3.8 pillow==13.0.0
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys
import warnings
from collections.abc import Callable

import pillow_jxl  # noqa: F401
from PIL import Image

folder = sys.argv[1]
Image.new("RGB", (64, 48), "red").save(f"{folder}/photo.jpg")


def saved(change: Callable, suffix: str, **options: bool) -> tuple[tuple[int, int], str, list[str]]:
    """The size and colour of a changed picture that was saved, and what was said."""
    with warnings.catch_warnings(record=True) as caught, Image.open(f"{folder}/photo.jpg") as photo:
        warnings.simplefilter("always")
        photo = change(photo) or photo
        photo.save(f"{folder}/changed.{suffix}", **options)
    with Image.open(f"{folder}/changed.{suffix}") as changed:
        level = changed.convert("RGB").getpixel((0, 0))
        colour = {0: "red", 2: "blue"}[max(range(3), key=level.__getitem__)]
        return changed.size, colour, [str(warning.message) for warning in caught]


changes = {
    "thumbnail": (lambda photo: photo.thumbnail((16, 16)), (16, 12), "red"),
    "paste": (lambda photo: photo.paste("blue", (0, 0, 64, 48)), (64, 48), "blue"),
    "resize": (lambda photo: photo.resize((16, 12)), (16, 12), "red"),
}
versions = (f"{name} {importlib.metadata.version(name)}" for name in ("pillow-jxl-plugin", "pillow"))
print(f"{', '.join(versions)}; a red photo of 64x48")
for name, (change, size, colour) in changes.items():
    for suffix, lossless in (("png", None), ("jxl", None), ("jxl", True), ("jxl", False)):
        options = {} if lossless is None else {"lossless_jpeg": lossless}
        seen = saved(change, suffix, **options)
        print(f"{name}, {suffix} {options}: {seen}")
        file_itself = name != "resize" and suffix == "jxl" and lossless is not False
        assert seen[:2] == (((64, 48), "red") if file_itself else (size, colour)), "the behaviour has changed"
        assert len(seen[2]) == (file_itself and lossless is None), "the behaviour has changed"
PYTHON
