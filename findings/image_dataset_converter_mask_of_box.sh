#!/bin/bash
# image-dataset-converter draws boxes into masks two pixels wider and two pixels higher than they are.
#
# Expected: od-to-is turns a box of 20 by 20 pixels into a mask of 400 pixels, at the columns and rows of the box.
# Seen with image-dataset-converter 0.1.0: the mask has 22 columns and 22 rows, 484 pixels: the last corner is taken a
# pixel behind the box instead of a pixel before its end, and the drawing counts it in. A box of 4 by 4 pixels has 36 in
# the mask instead of 16, and boxes beside each other overlap. The package's way back, is-to-od, finds the larger box.
# Why it matters: small objects get masks of twice their size, with two pixels of background at their right and foot.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    image-dataset-converter==0.1.0 kasperl==0.0.3 seppl==0.3.1 wai_logging==0.0.8 wai_common==0.0.46 numpy==2.4.6 \
    Pillow==13.0.0 opencv-python==5.0.0.93 shapely==2.2.0 imagesize==2.0.1 fast_opex==0.0.4 defusedxml==0.7.1 \
    python_image_complete==0.0.6 simple_palette_utils==0.0.4 platformdirs==4.14.9 python-dotenv==1.2.4 \
    watchdog==7.1.0 croniter==7.0.0 typing-inspect==0.9.0 typing-extensions==4.16.0 mypy-extensions==1.2.0 \
    javaproperties==0.8.2 python-dateutil==2.9.0.post0 six==1.17.0 matplotlib==3.11.2 contourpy==1.3.3 cycler==0.12.1 \
    fonttools==4.68.0 kiwisolver==1.5.1 packaging==26.4 pyparsing==3.3.3
# pypfm is left out: only depth maps need it, and its dependency cannot be built without a download
HOME="$folder" PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import pathlib
import sys
import xml.etree.ElementTree

import numpy
from idc.tool.convert import main
from PIL import Image

folder = pathlib.Path(sys.argv[1]) / "data"
print(f"image-dataset-converter {importlib.metadata.version('image-dataset-converter')}")


def box_of(path: pathlib.Path) -> tuple[int, ...]:
    """The first and last column and row of the one object of a VOC file."""
    (box,) = xml.etree.ElementTree.parse(path).getroot().iter("bndbox")
    return tuple(int(float(box.findtext(name))) for name in ("xmin", "ymin", "xmax", "ymax"))


for size in (4, 20, 50):
    here = folder / str(size)
    here.mkdir(parents=True)
    left, top = 100, 30
    box = (left, top, left + size - 1, top + size - 1)
    Image.new("RGB", (200, 100)).save(here / "photo.jpg")
    (here / "photo.xml").write_text(
        "<annotation><folder>.</folder><filename>photo.jpg</filename><size><width>200</width><height>100</height>"
        f"<depth>3</depth></size><object><name>cat</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object></annotation>"
    )
    read = ["from-voc-od", "-i", f"{here}/photo.xml"]
    with contextlib.redirect_stderr(io.StringIO()):
        main([*read, "to-voc-od", "-o", f"{here}/same"])
        main([*read, "od-to-is", "--labels", "cat", "to-indexed-png-is", "-o", f"{here}/mask"])
        again = ["od-to-is", "--labels", "cat", "is-to-od", "--labels", "cat"]
        main([*read, *again, "to-voc-od", "-o", f"{here}/again"])
    assert box_of(here / "same/photo.xml") == box  # the box itself is read and written as it is
    rows, columns = numpy.nonzero(numpy.array(Image.open(here / "mask/photo.png")))
    drawn = tuple(map(int, (columns.min(), rows.min(), columns.max(), rows.max())))
    back = box_of(here / "again/photo.xml")
    print(f"box {box}, {size**2} pixels: mask at {drawn}, {len(rows)} pixels; back as a box: {back}")
    larger = (box[0], box[1], box[2] + 2, box[3] + 2)
    assert drawn == larger and len(rows) == (size + 2) ** 2, "the behaviour has changed"
    assert back == larger, "the behaviour has changed"
PYTHON
