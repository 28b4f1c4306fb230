#!/bin/bash
# cleanvision reports bright pictures with a palette as dark, and 16-bit pictures of middle brightness as light.
#
# Expected: "dark" and "light" are about the brightness of the colours that a picture shows; the same pixels saved as
# RGB and with a palette get the same answer.
# Seen with cleanvision 0.3.7: a picture is not converted before its brightness is taken. Of a palette PNG the indices
# are divided by 255: a picture of eight bright colours has the brightness 7 / 255 and is dark; with the same colours in
# another order of the palette it may be anything. 16-bit values are divided by 255 too: a brightness of 129 on a scale
# to 1, a light_score below 0, and the issue "light". The same pixels as RGB, or in 8 bits, have no issue.
# Why it matters: screenshots, charts and compressed PNGs have palettes, medical and microscope pictures 16 bits. Who
# drops what is reported drops good pictures, and really dark ones with a palette are missed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    cleanvision==0.3.7 numpy==2.4.6 pillow==12.3.0 ImageHash==4.3.2 pandas==3.1.1 tabulate==0.10.0 tqdm==4.70.1 \
    matplotlib==3.11.2 fsspec==2026.9.0 scipy==1.17.1 pywavelets==1.9.0 contourpy==1.3.3 cycler==0.12.1 \
    fonttools==4.68.0 kiwisolver==1.5.1 packaging==26.4 pyparsing==3.3.3 python-dateutil==2.9.0.post0 six==1.17.0 \
    tzdata==2026.6
HOME="$folder" PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import pathlib
import sys

import numpy
from cleanvision import Imagelab
from PIL import Image

folder = pathlib.Path(sys.argv[1]) / "data"
folder.mkdir()
rows, columns = numpy.mgrid[:240, :320]
field = (rows // 30 + columns // 40) % 8  # a board of eight colours
bright = [(255, 255, 200), (250, 230, 200), (240, 250, 255), (200, 255, 220), (255, 200, 230), (230, 240, 210),
          (210, 250, 250), (255, 255, 255)]
black = [(0, 0, 0), (0, 10, 0), (10, 0, 0), (0, 0, 10), (5, 5, 5), (9, 9, 0), (0, 8, 8), (10, 10, 10)]
true = {}
for name, colours, first in (("bright", bright, 0), ("black", black, 240)):
    picture = Image.fromarray((field + first).astype(numpy.uint8))
    picture.putpalette([0] * 3 * first + [value for colour in colours for value in colour])
    picture.save(folder / f"{name}_palette.png")
    picture.convert("RGB").save(folder / f"{name}_rgb.png")
    pixels = [numpy.array(Image.open(folder / f"{name}_{form}.png").convert("RGB")) for form in ("palette", "rgb")]
    assert (pixels[0] == pixels[1]).all()  # the same picture
    assert pixels[0].min() >= 200 if name == "bright" else pixels[0].max() <= 10
values = (columns * 100 + 16000 + rows * 10).astype(numpy.uint16)
Image.fromarray(values).save(folder / "grey_16_bit.png")
Image.fromarray((values // 257).astype(numpy.uint8)).save(folder / "grey_8_bit.png")
assert 16000 <= values.min() and values.max() < 51000  # of 65535

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    laboratory = Imagelab(data_path=str(folder))
    laboratory.find_issues({"dark": {}, "light": {}}, n_jobs=1, verbose=False)
issues = {pathlib.Path(path).name: row for path, row in laboratory.issues.iterrows()}
print(f"cleanvision {importlib.metadata.version('cleanvision')}")
seen = {}
for name, row in issues.items():
    seen[name] = "dark" if row["is_dark_issue"] else "light" if row["is_light_issue"] else "none"
    print(f"{name}: issue {seen[name]}; dark_score {row['dark_score']:.3f}, light_score {row['light_score']:.3f}")
assert (seen["bright_rgb.png"], seen["black_rgb.png"], seen["grey_8_bit.png"]) == ("none", "dark", "none")
assert seen["bright_palette.png"] == "dark", "the behaviour has changed"
assert seen["black_palette.png"] == "none", "the behaviour has changed"
assert seen["grey_16_bit.png"] == "light", "the behaviour has changed"
PYTHON
