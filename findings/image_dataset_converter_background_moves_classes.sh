#!/bin/bash
# image-dataset-converter gives masks other classes when it writes and reads them with another background than 0.
#
# Expected: to-indexed-png-is and from-indexed-png-is with --background 255, "the index used for the background",
# and the same labels cat and dog, give back the masks that went in. With background 0 they do.
# Seen with image-dataset-converter 0.1.0: the writers number the classes from 1 whatever the background is, the readers
# number them without it, from 0 if it is 255. What was written as cat is read as dog; what was dog is left out, with a
# warning. With --background 1 the cat is written with the number of the background, and is gone without a word. The
# same is true of grey pictures and of the blue channel.
# Why it matters: 255 is a usual number for what is not to be counted. A mask that is read, cleaned and written again
# has all its classes moved by one.
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

import numpy
from idc.tool.convert import main
from PIL import Image

folder = pathlib.Path(sys.argv[1]) / "data"
labels = ["cat", "dog"]


def round_trip(form: str, background: int) -> tuple[numpy.ndarray, dict[str, numpy.ndarray]]:
    """The picture that is written of a mask with a cat and a dog, and the regions that are read from it again."""
    ends = f"{form}_{background}"
    (folder / ends).mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(folder / ends / "photo.jpg")
    picture = Image.fromarray(mask)
    picture.putpalette([value for value in range(256) for _ in range(3)])
    picture.save(folder / ends / "photo.png")
    common = ["--background", str(background)]
    message = io.StringIO()
    with contextlib.redirect_stderr(message), contextlib.redirect_stdout(message):
        first = ["from-indexed-png-is", "-i", f"{folder}/{ends}/photo.png", "--labels", *labels]
        main(first + [f"to-{form}-is", "-o", f"{folder}/{ends}_out", *common])
        second = [f"from-{form}-is", "-i", f"{folder}/{ends}_out/photo.png", "--labels", *labels, *common]
        main(second + ["to-indexed-png-is", "-o", f"{folder}/{ends}_back"])
    written = numpy.array(Image.open(folder / f"{ends}_out/photo.png"))
    back = folder / f"{ends}_back/photo.png"
    again = numpy.array(Image.open(back)) if back.exists() else numpy.zeros_like(mask)
    return written if written.ndim == 2 else written[..., 2], {
        name: again == number for number, name in enumerate(labels, 1)
    }


mask = numpy.zeros((100, 200), numpy.uint8)
mask[10:30, 20:60] = 1
mask[50:70, 100:150] = 2
right = {name: mask == number for number, name in enumerate(labels, 1)}
pixels = {name: int(region.sum()) for name, region in right.items()}
assert pixels == {"cat": 800, "dog": 1000}
print(f"image-dataset-converter {importlib.metadata.version('image-dataset-converter')}, pixels {pixels}")
for form in ("indexed-png", "grayscale", "blue-channel"):
    for background in (0, 1, 255):
        written, found = round_trip(form, background)
        numbers = {name: sorted(map(int, numpy.unique(written[region]))) for name, region in right.items()}
        counts = {name: int(region.sum()) for name, region in found.items()}
        print(f"{form}, background {background}: written as {numbers}, read again as {counts}")
        assert (counts == pixels) == (background == 0), "the behaviour has changed"
        if background == 1:
            assert (written[right["cat"]] == written[0, 0]).all(), "the behaviour has changed"
        if background == 255:
            assert (found["dog"] == right["cat"]).all() and not found["cat"].any(), "the behaviour has changed"
PYTHON
