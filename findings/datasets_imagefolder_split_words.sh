#!/usr/bin/env bash
# datasets' imagefolder takes a class folder such as bullet_train for a split, and loses the others and all labels.
#
# Expected: folders of images are classes, unless all the folders at the top are splits (train, test, validation ...).
# Seen with datasets 5.2.0: one folder is enough whose name holds such a word. Of the classes bullet_train and airliner
# only the images of the first are loaded, without labels, and nothing is said. Of train/airliner and train/test_tube,
# where the split is plain, test_tube becomes a split "test" and stays in "train" too: one tests on training images.
# Why it matters: bullet train is a class of ImageNet; a score on such a split says nothing of new images.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
cd "$folder"
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" PYTHONPATH="$folder" python3 - <<'PYTHON'
import pathlib

import datasets
from PIL import Image

datasets.disable_progress_bars()


def loaded(root: str, classes: list[str]) -> dict[str, list[str | None]]:
    """The classes of the images in each split, if each class folder has two images."""
    for name in classes:
        for number in range(2):
            path = pathlib.Path(root, name, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    found = datasets.load_dataset("imagefolder", data_dir=root)
    return {
        split: [data.features["label"].int2str(label) for label in data["label"]]
        if "label" in data.features
        else [None] * len(data)
        for split, data in found.items()
    }


sound = loaded("sound", ["airliner", "tabby"])
lost = loaded("lost", ["airliner", "bullet_train"])
twice = loaded("twice", ["train/airliner", "train/test_tube"])
print(f"datasets {datasets.__version__}, two images a class")
print(f"airliner, tabby: {sound}")
print(f"airliner, bullet_train: {lost}")
print(f"train/airliner, train/test_tube: {twice}")
assert sound == {"train": ["airliner"] * 2 + ["tabby"] * 2}, "the behaviour has changed"
assert lost == {"train": [None, None]}, "the behaviour has changed"
both = ["airliner"] * 2 + ["test_tube"] * 2
assert twice == {"train": both, "test": ["test_tube"] * 2}, "the behaviour has changed"
PYTHON
