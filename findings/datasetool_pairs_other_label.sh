#!/bin/bash
# datasetool loses photos with the name of another one in another folder, and may pair a photo with another's label.
#
# Expected: images/day/0001.jpg and images/night/0001.jpg with labels/day/0001.txt and labels/night/0001.txt are two
# photos with their labels: folders are searched with all that is in them, and keep_structure=True keeps their layout.
# Seen with datasetool 0.1.2: photos and labels are looked up by the bare name, and the last one that the search meets
# stays. Half of the photos are in no part; which photo is left and which label is left is decided apart from each
# other, so that the photo by day may come with the label by night. strict=True, which raises for anything that does not
# match, finds nothing, and the report says that nothing was skipped.
# Why it matters: numbered names in folders for each camera, video or day are usual. With mode "move" nothing shows
# where the rest is.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" --no-deps \
    datasetool==0.1.2 tqdm==4.70.1
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import pathlib
import sys
from unittest import mock

from datasetool.split import SplitConfig, split_dataset

folder = pathlib.Path(sys.argv[1]) / "data"
times = ("day", "night")


def split(case: str, name: str) -> tuple[int, list[str], list[str]]:
    """How many photos are reported, the photos that are in the parts, and the label of each."""
    for time in times:
        for number in range(20):
            for kind, ending in (("images", ".jpg"), ("labels", ".txt")):
                path = folder / case / kind / time / (name.format(time=time, number=number) + ending)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{time} {number}")  # stands for the pixels, and for the objects of just this photo
    parts = split_dataset(
        SplitConfig(folder / case / "images", folder / case / "labels", folder / case / "out", val_ratio=0.2, seed=1,
                    strict=True, keep_structure=True, use_progress=False)
    )
    photos = sorted((folder / case / "out/images").rglob("*.jpg"))
    labels = sorted((folder / case / "out/labels").rglob("*.txt"))
    return sum(map(len, parts)), [path.read_text() for path in photos], [path.read_text() for path in labels]


print(f"datasetool {importlib.metadata.version('datasetool')}")
for case, name in (("own", "{time}_{number:04}"), ("same", "{number:04}")):
    count, photos, labels = split(case, name)
    print(f"{case} names: 40 photos, 40 labels; {count} reported, {len(set(photos))} photos, {len(set(labels))} labels")
    assert count == len(set(photos)) == len(set(labels)) == (40 if case == "own" else 20), "the behaviour has changed"

# The file system decides in which order folders are searched: here day is last for photos, and night for labels.
search = pathlib.Path.rglob


def ordered(path: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """What a search finds, in one of the orders in which a file system may give it."""
    return sorted(search(path, pattern), reverse=path.name == "images")


with mock.patch.object(pathlib.Path, "rglob", ordered):
    split("order", "{number:04}")
pairs = {
    (photo.parent.name, label.parent.name)
    for photo in search(folder / "order/out/images", "*.jpg")
    for label in search(folder / "order/out/labels", "*.txt")
    if photo.stem == label.stem
}
print(f"photos with labels, in another order of the search: {pairs}")
assert pairs == {("day", "night")}, "the behaviour has changed"
PYTHON
