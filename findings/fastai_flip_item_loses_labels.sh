#!/bin/bash
# fastai's FlipItem mirrors a picture, loses its boxes, and puts its key points to the left of it.
#
# Expected: the boxes and points are mirrored with the picture. The documentation names TensorPoint and TensorBBox among
# what FlipItem mirrors, and as one of item_tfms it is told which of them belong together.
# Seen with fastai 2.8.12: FlipItem has an earlier place in the order than PointScaler, which makes pixels to shares
# from -1 to 1. It turns a column of 10 pixels into -10, which is then scaled. The object at 10 to 30 of 100 columns is
# at 70 to 90 afterwards, and its points at -10 and -30. Boxes end up there too, and bb_pad drops them as empty: a
# mirrored picture has no boxes and no labels. Flip, as one of batch_tfms, is right.
# Why it matters: with p=0.5 half the pictures of each epoch are taught to be without objects, and no error, warning or
# number of boxes tells.
# Without it: batch_tfms=Flip() (below).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    fastai==2.8.12 torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 -W ignore - "$folder" <<'PYTHON'
import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import torch
from fastai.vision.all import BBoxBlock, BBoxLblBlock, DataBlock, Flip, FlipItem, ImageBlock, PointBlock
from PIL import Image

HEIGHT, WIDTH = 80, 100
photos = Path(sys.argv[1]) / "photos"
photos.mkdir()
photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
photo[20:40, 10:30] = 255
files = [photos / f"{number}.png" for number in range(4)]
for path in files:
    Image.fromarray(photo).save(path)


def first_of_batch(blocks: tuple, get_y: object, **transforms: list) -> tuple[tuple[int, int], list]:
    """The columns of the object in the picture, and the boxes or points in pixels."""
    block = DataBlock(
        blocks, get_items=lambda _: files, get_y=get_y, n_inp=1, splitter=lambda _: ([0, 1], [2, 3]), **transforms
    )
    batch = block.dataloaders(photos, bs=2, num_workers=0, device=torch.device("cpu")).train.one_batch()
    columns = np.nonzero(batch[0][0, 0].numpy().max(0) > 0.5)[0]
    shares = torch.as_tensor(batch[1][0].numpy()).reshape(-1, 2)
    pixels = (shares + 1) * torch.tensor([WIDTH, HEIGHT]) / 2
    return (int(columns.min()), int(columns.max()) + 1), pixels.round().tolist()


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("fastai", "torch")))
corners = [[10.0, 20.0], [30.0, 40.0]]
boxes = (ImageBlock, BBoxBlock, BBoxLblBlock(vocab=["cat"])), [lambda _: [[10, 20, 30, 40]], lambda _: ["cat"]]
points = (ImageBlock, PointBlock), lambda _: corners
for transforms, columns, box, moved in (
    ({}, (10, 30), corners, corners),
    ({"batch_tfms": [Flip(p=1.0)]}, (70, 90), [[70.0, 20.0], [90.0, 40.0]], [[90.0, 20.0], [70.0, 40.0]]),
    ({"item_tfms": [FlipItem(p=1.0)]}, (70, 90), [], [[-10.0, 20.0], [-30.0, 40.0]]),
):
    seen = [first_of_batch(*kind, **transforms) for kind in (boxes, points)]
    names = {kind: type(each[0]).__name__ for kind, each in transforms.items()}
    print(f"{names}: object at columns {seen[0][0]}, box {seen[0][1]}, points {seen[1][1]}")
    assert seen[0] == (columns, box) and seen[1] == (columns, moved), "the behaviour has changed"
PYTHON
