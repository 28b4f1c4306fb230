# SPDX-License-Identifier: Apache-2.0
"""Pictures with boxes around objects: scenes of digits or a folder, cropped at random with their boxes."""

import math
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from core.picture_sources import Source, number_in_epoch, read_picture
from core.pixels import Image
from imgproc import resize
from utils import drawing_from, torch_seed

COLUMNS, LABEL, KIND = 6, 4, 5  # of a row of the targets, and two of their places; before them is the box
COUNTED, CROWD, DIFFICULT = 0, 1, 2  # the kinds
LEAST_CROPPED_SIDE = 32  # pixels of a picture: smaller ones have too few to cut from
LARGEST_SHORT_SIDE = 4  # in sizes of the network's image: all that a crop to a sixteenth of the area can show
LARGEST_AREA = 2  # in squares of that short side: what is longer than 2 : 1 would take many times as much
LEAST_BOX_SIDE = 1  # pixels of an object that is trained on; the log of much less would be most of a loss
# What intersection over union a crop must have with an object, at random: 0 is any with the centre of one; 1, by
# torchvision's rule, is the whole picture. Its own list goes up to 0.9, which small objects never reach: looking for it
# takes 20 ms.
OVERLAPS = [0.0, 0.0, 0.0, 1.0]


class BoxDataset(Dataset[tuple[Image, np.ndarray] | None]):
    """The pictures of a source at one size, squashed to a square, and their objects.

    dataset[epoch, index] -> uint8 [S, S, 3] and float32 [M, 6]: left, top, right, bottom in pixels of S, label, and
    COUNTED, or CROWD or DIFFICULT for what neither counts nor is trained on. M is the same for all pictures, and rows
    without an object are -1 throughout.
    With a `seed` (training) a picture with an object is augmented, if it is not tiny, as a function of (seed, epoch,
    index), and what has less than a pixel left of a side is no object any more; without one, all that has an area is.
    With `skip_bad` the item of a picture that cannot be read is None; else ValueError or OSError is raised.
    """

    def __init__(
        self,
        source: Source,
        image_size: int,
        seed: int | None = None,
        augment: v2.Transform | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.source, self.image_size, self.seed, self.augment = source, image_size, seed, augment
        self.skip_bad = skip_bad
        self.root, self.classes = source.root, source.classes
        self.target_bytes = source.most_objects * COLUMNS * np.dtype(np.float32).itemsize

    def __len__(self) -> int:
        return len(self.source)

    def path(self, index: int) -> str:
        """The picture in messages."""
        return self.source.path(index)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Image, np.ndarray] | None:
        epoch, index = key
        number = index if self.seed is None else number_in_epoch(self.source, epoch, index)
        picture = read_picture(self.source, number, self.skip_bad)
        if picture is None:
            return None
        image, boxes, labels, ignored, _ = picture
        kinds = np.where(ignored, CROWD if self.source.has_crowds else DIFFICULT, COUNTED)
        rows = np.column_stack([boxes, labels, kinds]).astype(np.float32)
        if self.seed is not None:
            image, rows = self.for_training(image, rows[~ignored], torch_seed(self.seed, epoch, index))
        image, rows = squashed(image, rows, self.image_size)
        sides = rows[:, 2:4] - rows[:, :2]
        rows = rows[(sides > 0 if self.seed is None else sides >= LEAST_BOX_SIDE).all(axis=1)]
        targets = np.full((self.source.most_objects, COLUMNS), -1, np.float32)
        targets[: len(rows)] = rows
        return image, targets

    def for_training(self, image: Image, rows: np.ndarray, seed: int) -> tuple[Image, np.ndarray]:
        """A picture and its rows of targets, augmented where it can be."""
        boxes = rows[:, :4]
        if self.augment is not None and len(rows):  # a crop needs an object to look for
            image, boxes = shrunk(image, boxes, LARGEST_SHORT_SIDE * self.image_size)
            if min(image.shape[:2]) >= LEAST_CROPPED_SIDE:
                image, boxes = augmented(image, boxes, self.augment, seed)
        return image, np.hstack([boxes, rows[:, 4:]])


def squashed(image: Image, rows: np.ndarray, side: int) -> tuple[Image, np.ndarray]:
    """A picture as a square of so many pixels a side, and rows float32 [N, 6] with their boxes in it, none outside."""
    height, width = image.shape[:2]
    boxes = rows[:, :4] * (side / np.array([width, height, width, height], np.float32))
    return np.ascontiguousarray(resize(image, side, side)), np.hstack([boxes.clip(0, side), rows[:, 4:]])


def shrunk(image: Image, boxes: np.ndarray, largest_short_side: int) -> tuple[Image, np.ndarray]:
    """A picture and its boxes, float32 [N, 4], with at most so many pixels in its short side, and LARGEST_AREA squares
    of that in all.

    A photo of 12 megapixels on a canvas of 16 times its area would take a gigabyte.
    """
    height, width = image.shape[:2]
    ratio = min(
        largest_short_side / min(height, width), largest_short_side * math.sqrt(LARGEST_AREA / (height * width))
    )
    if ratio >= 1:
        return image, boxes
    size = round(ratio * height), round(ratio * width)
    scale = np.array([size[1] / width, size[0] / height] * 2, np.float32)
    return resize(image, *size), boxes * scale


def augmented(image: Image, boxes: np.ndarray, augment: v2.Transform, seed: int) -> tuple[Image, np.ndarray]:
    """The picture and its boxes, float32 [N, 4], as a function of the seed; one whose centre is cut off has no area."""
    pixels = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
    corners = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=image.shape[:2])
    with drawing_from(seed):
        pixels, corners = augment(pixels, corners)
    return pixels.permute(1, 2, 0).numpy(), corners.numpy()


def augmentation(config: ModuleType) -> v2.Transform:
    """What SSD augments with (arXiv:1512.02325), as far as detection/config.py asks for it; sizes may change."""
    steps: list[v2.Transform] = []
    if config.random_photometric_distortion:
        steps.append(v2.RandomPhotometricDistort())
    if config.random_zoom_out > 1:
        fill = [round(255 * mean) for mean in config.model_mean_parameters]
        steps.append(v2.RandomZoomOut(fill, (1.0, config.random_zoom_out)))
    if config.random_crop_scale:
        least, largest = map(math.sqrt, config.random_crop_scale)  # of a side
        steps.append(v2.RandomIoUCrop(least, largest, sampler_options=OVERLAPS))
    steps.append(v2.RandomHorizontalFlip(config.random_flip_probability))
    return v2.Compose(steps)


def take_targets(rows: Tensor) -> list[dict[str, Tensor]]:
    """What a loss is taken of in a batch [N, M, 6]: "boxes" [K, 4] of at least a pixel, "labels" [K] int64 from 1."""
    sides = rows[..., 2:4] - rows[..., :2]
    has_loss = (rows[..., KIND] == COUNTED) & (sides >= LEAST_BOX_SIDE).all(2)  # in a row without an object all is -1
    counted = [image[chosen] for image, chosen in zip(rows, has_loss, strict=True)]
    return [{"boxes": image[:, :4], "labels": image[:, LABEL].long() + 1} for image in counted]
