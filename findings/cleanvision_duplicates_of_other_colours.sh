#!/bin/bash
# cleanvision reports pictures as exact duplicates that have other colours or another shape.
#
# Expected: exact duplicates are "identical to each other": pictures with the same pixels.
# Seen with cleanvision 0.3.7: the sum that is compared is taken over the bytes of the pixels alone, without size, mode
# and palette. Two palette PNGs with the same indices are duplicates whatever their colours are: a white sign on red and
# a white sign on blue. A plain picture is a duplicate of any other with as many bytes: 120 by 80 of 80 by 120, and a
# grey one of 240 by 120 of an RGB one of 120 by 80. The same pictures as RGB files of one size are none.
# Why it matters: exact duplicates are what one removes without a look. Here pictures of other classes go.
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
rows, columns = numpy.mgrid[:80, :120]
sign = ((rows - 40) ** 2 + (columns - 60) ** 2 < 900).astype(numpy.uint8)
for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
    picture = Image.fromarray(sign)
    picture.putpalette([*colour, 255, 255, 255])
    picture.save(folder / f"sign_{name}_palette.png")
    picture.convert("RGB").save(folder / f"sign_{name}_rgb.png")
Image.new("L", (120, 80), 90).save(folder / "plain_wide.png")
Image.new("L", (80, 120), 90).save(folder / "plain_high.png")
Image.new("RGB", (120, 80), (70, 70, 70)).save(folder / "plain_colour.png")
Image.new("L", (240, 120), 70).save(folder / "plain_large.png")
pictures = {path.name: Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))}

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    laboratory = Imagelab(data_path=str(folder))
    laboratory.find_issues({"exact_duplicates": {}}, n_jobs=1, verbose=False)
groups = [sorted(pathlib.Path(path).name for path in each) for each in laboratory.info["exact_duplicates"]["sets"]]
print(f"cleanvision {importlib.metadata.version('cleanvision')}")
for group in sorted(groups):
    one, other = (pictures[name] for name in group)
    same_size = one.size == other.size
    differ = (numpy.array(one) != numpy.array(other)).any(axis=2).sum() if same_size else None
    print(f"exact duplicates: {group}, sizes {one.size} and {other.size}, pixels that differ: {differ}")
    assert not same_size or differ > 1000
assert sorted(groups) == [
    ["plain_colour.png", "plain_large.png"],
    ["plain_high.png", "plain_wide.png"],
    ["sign_blue_palette.png", "sign_red_palette.png"],
], "the behaviour has changed"
PYTHON
