#!/usr/bin/env bash
# pylabel's GroupShuffleSplit() splits objects instead of images: most images are in training and test set at once.
#
# Expected: what has one value of group_col, which is img_filename if nothing is said, gets into one part.
# Seen with pylabel 0.1.55: of 100 images with 4 objects each, 91 have objects in the training and in the test part,
# whatever group_col is; sklearn's function of that name, which it calls, leaves none of them in both parts with the
# file names as its groups.
# Why it matters: a test on images that training has seen gives better figures than the detector deserves; and in each
# part other objects of the same image look like background.
# Without it: sklearn's GroupShuffleSplit with groups=dataset.df.img_filename (below).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pylabel==0.1.55 pandas==2.3.3 numpy==2.4.6 opencv-python==5.0.0.93 scikit-learn==1.9.1
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import json
import sys

from pylabel import importer
from sklearn.model_selection import GroupShuffleSplit

folder = sys.argv[1]
IMAGES, OBJECTS = 100, 4
with open(f"{folder}/coco.json", "w") as file:
    json.dump(
        {
            "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in range(IMAGES)],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {
                    **{"id": i + 1, "image_id": i // OBJECTS, "category_id": 1, "iscrowd": 0, "area": 400},
                    **{"bbox": [20 * (i % OBJECTS), 10, 20, 20], "segmentation": []},
                }
                for i in range(IMAGES * OBJECTS)
            ],
        },
        file,
    )


def read():
    with contextlib.redirect_stderr(io.StringIO()):
        return importer.ImportCoco(f"{folder}/coco.json")


def divided(dataset) -> int:
    """Number of images with objects in more than one part."""
    return int((dataset.df.groupby("img_filename").split.nunique() > 1).sum())


counts = {}
for column in ("img_filename", "img_id", "cat_name"):
    dataset = read()
    dataset.splitter.GroupShuffleSplit(
        train_pct=0.5, test_pct=0.5, val_pct=0, group_col=column, random_state=0
    )
    counts[column] = divided(dataset)
dataset = read()
splitter = GroupShuffleSplit(n_splits=1, train_size=0.5, random_state=0)
train, test = next(splitter.split(dataset.df, groups=dataset.df.img_filename))
dataset.df.loc[train, "split"], dataset.df.loc[test, "split"] = "train", "test"
print(f"pylabel {importlib.metadata.version('pylabel')}, scikit-learn {importlib.metadata.version('scikit-learn')}")
print(f"Images of {IMAGES} in both parts, for each group_col: {counts}; with sklearn itself: {divided(dataset)}")
assert min(counts.values()) == max(counts.values()) > IMAGES / 2, "the behaviour has changed"
assert divided(dataset) == 0, "sklearn does not help any more"
PYTHON
