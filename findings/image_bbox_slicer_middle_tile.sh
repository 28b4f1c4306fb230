#!/bin/bash
# image-bbox-slicer leaves an object out of each tile in which none of the corners of its box lies.
#
# Expected: with keep_partial_labels=True a tile gets the part of each box that lies in it.
# Seen with image-bbox-slicer 0.4: only corners are looked for. A box that covers three tiles in a row is cut into the
# first and the last one, and the middle one, which it fills from side to side, gets nothing; of nine tiles under a
# large box five get nothing, among them the one that it covers wholly. Nothing is raised or warned of.
# Why it matters: the middle tiles show the object and nothing else, and the detector learns from them that it is
# background, or they are dropped as empty. Small tiles, for which slicing is made, have the most of them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    image-bbox-slicer==0.4 pascal-voc-writer==0.1.4 pillow==13.0.0 numpy==2.4.6 matplotlib==3.11.2
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import pathlib
import sys
import warnings
import xml.etree.ElementTree

import image_bbox_slicer
from pascal_voc_writer import Writer
from PIL import Image

folder = pathlib.Path(sys.argv[1])


def tiles(box: tuple[int, int, int, int]) -> list[tuple[int, ...] | None]:
    """The box in each of the nine tiles of 100 x 100 of a photo of 300 x 300, row by row."""
    place = folder / "_".join(map(str, box))
    (place / "photos").mkdir(parents=True)
    (place / "labels").mkdir()
    Image.new("RGB", (300, 300)).save(place / "photos" / "1.png")
    writer = Writer(str(place / "photos" / "1.png"), 300, 300)
    writer.addObject("cat", *box)
    writer.save(str(place / "labels" / "1.xml"))
    slicer = image_bbox_slicer.Slicer()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # it says that it creates folders
        slicer.config_dirs(*(str(place / name) for name in ("photos", "labels", "photo_tiles", "label_tiles")))
        slicer.keep_partial_labels = True
        slicer.ignore_empty_tiles = False
        slicer.slice_by_size((100, 100))
    found = []
    for path in sorted((place / "label_tiles").glob("*.xml")):
        bounds = xml.etree.ElementTree.parse(path).find("object/bndbox")
        names = ("xmin", "ymin", "xmax", "ymax")
        found.append(None if bounds is None else tuple(int(bounds.findtext(name)) for name in names))
    return found


print(f"image-bbox-slicer {importlib.metadata.version('image-bbox-slicer')}")
for box, missing in (((20, 20, 280, 80), [1]), ((20, 20, 280, 280), [1, 3, 4, 5, 7])):
    found = tiles(box)
    right = []
    for top in (0, 100, 200):
        for left in (0, 100, 200):
            part = (max(box[0] - left, 0), max(box[1] - top, 0), min(box[2] - left, 100), min(box[3] - top, 100))
            right.append(part if part[0] < part[2] and part[1] < part[3] else None)
    absent = [place for place, part in enumerate(right) if part and not found[place]]
    print(f"box {box}: tiles {found}, without their part: {absent}")
    assert len(found) == 9 and all(found[place] in (None, part) for place, part in enumerate(right))
    assert absent == missing, "the behaviour has changed"
PYTHON
