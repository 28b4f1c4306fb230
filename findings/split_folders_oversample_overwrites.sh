#!/bin/bash
# split-folders writes copies of one photo over other photos of the class when it balances the classes.
#
# Expected: oversample=True fills small classes up with copies, "to even out the imbalance": all photos of a class are
# still there, and some are there twice.
# Seen with split-folders 0.6.1: a copy of photo.jpg is named photo_0.jpg, photo_1.jpg and so on, whether such a file is
# there or not. A class with photo.jpg and photo_0.jpg to photo_3.jpg loses photos to copies of others, and stays
# smaller than the largest class; nothing is said. With names that end otherwise all photos and copies are there.
# Why it matters: names with a number at the end are what browsers, cameras and programs that write crops give. Photos
# of the small class, which it has too few of, are gone from the training set.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    split-folders==0.6.1
PYTHONPATH="$folder/packages" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import pathlib
import sys

import splitfolders

folder = pathlib.Path(sys.argv[1])
print(f"split-folders {importlib.metadata.version('split-folders')}")
for case, small_names in (
    ("numbers", ["photo.jpg", "photo_0.jpg", "photo_1.jpg", "photo_2.jpg", "photo_3.jpg"]),
    ("letters", ["photo.jpg", "photo-a.jpg", "photo-b.jpg", "photo-c.jpg", "photo-d.jpg"]),
):
    classes = {"large": [f"{number:02}.jpg" for number in range(12)], "small": small_names}
    for name, photos in classes.items():
        (folder / case / name).mkdir(parents=True)
        for photo in photos:
            (folder / case / name / photo).write_text(f"{name}/{photo}")  # stands for the pixels
    lost = missing = 0
    for seed in range(20):
        output = folder / f"{case}_{seed}"
        splitfolders.fixed(folder / case, output=output, seed=seed, fixed=1, oversample=True)
        files = [path for path in output.rglob("*.jpg") if path.parent.name == "small"]
        assert {path.read_text() for path in files} <= {f"small/{photo}" for photo in small_names}
        photos = len({path.read_text() for path in files})
        lost += len(small_names) - photos
        train = {name: len(list((output / "train" / name).iterdir())) for name in classes}
        missing += train["large"] - train["small"]
        if seed < 3:
            print(f"{case}, seed {seed}: {photos} of {len(small_names)} photos left; training files: {train}")
    print(f"{case}: {lost} photos lost with twenty seeds, {missing} files too few")
    assert (lost > 0) == (missing > 0) == (case == "numbers"), "the behaviour has changed"
PYTHON
