#!/bin/bash
# litdata's optimize() stores a picture that has a palette without its palette, and it comes back black.
#
# Expected: the picture that the function returned, as it is for pictures in RGB, RGBA and grey, or an error.
# Seen with litdata 0.2.76 and Pillow 13.0.0: mode, size and indices are stored, and the palette is not. The picture has
# mode P again, with an empty palette, so that convert("RGB") works: red, green and blue are all black. The indices are
# right, so that masks are.
# Why it matters: GIFs, and PNGs that were made small, have palettes, and a folder with both kinds gives a data set in
# which some photos are wrong. Nothing is said.
# Without it: return Image.open(path).convert("RGB").
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    litdata==0.2.76 torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 numpy==2.4.6
cat > "$folder/main.py" <<'PYTHON'
import importlib.metadata
import sys

import litdata
from PIL import Image

folder = sys.argv[1]


def sample(mode: str) -> dict:
    """A sample as it comes from a file."""
    return {"image": Image.open(f"{folder}/{mode}.png")}


if __name__ == "__main__":
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    photo = Image.new("RGB", (3, 1))
    photo.putdata(colours)
    photo.save(f"{folder}/RGB.png")
    indexed = Image.new("P", (3, 1))
    indexed.putpalette([level for colour in colours for level in colour])
    indexed.putdata([0, 1, 2])
    indexed.save(f"{folder}/P.png")

    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("litdata", "torch", "pillow")))
    options = {"chunk_bytes": "1MB", "num_workers": 1, "keep_data_ordered": True, "verbose": False}
    litdata.optimize(sample, ["RGB", "P"], f"{folder}/stored", **options)
    dataset = litdata.StreamingDataset(f"{folder}/stored")
    for number, mode in enumerate(("RGB", "P")):
        given, read = sample(mode)["image"], dataset[number]["image"]
        before, after = (list(each.convert("RGB").get_flattened_data()) for each in (given, read))
        print(f"{mode}: given {before}, read {after} in mode {read.mode}")
        assert before == colours and read.mode == mode, "the behaviour has changed"
        assert after == (colours if mode == "RGB" else [(0, 0, 0)] * 3), "the behaviour has changed"
        assert list(read.get_flattened_data()) == list(given.get_flattened_data()), "the behaviour has changed"
PYTHON
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 -W ignore "$folder/main.py" "$folder"
