# SPDX-License-Identifier: Apache-2.0
"""Pictures with boxes around objects: scenes of digits or a folder, augmented with their boxes."""

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from core.annotated_images import Annotated
from core.picture_datasets import PictureDataset
from core.picture_sources import Source, open_pictures
from core.pixels import Image
from core.seeds import drawing_from
from imgproc import resize

COLUMNS, LABEL, KIND = 6, 4, 5  # of a row of the targets: the four of a box, a label from 0, a kind; -1: no object
COUNTED, CROWD, DIFFICULT = 0, 1, 2  # the kinds
LEAST_CROPPED_SIDE = 32  # pixels of a picture: smaller ones have too few to cut from
LARGEST_SHORT_SIDE = 4  # times the side of the network's image: all that a crop to a sixteenth of the area can show
LARGEST_AREA = 2  # times the square of that short side: else a strip of 40 : 1 would take twenty times as much
LEAST_BOX_SIDE = 1  # pixels of an object that is trained on; the log of much less would be most of a loss
# How much a crop must overlap an object at least (intersection over union); RandomIoUCrop takes one of these at random.
# 0 is any crop with the centre of an object, 1 the whole picture. Not torchvision's 0.1 to 0.9: small objects never
# reach the larger ones, and looking takes 20 ms.
OVERLAPS = [0.0, 0.0, 0.0, 1.0]


class BoxDataset(PictureDataset):
    """The pictures of a source at one size, squashed to a square, and their objects.

    dataset[epoch, index] -> uint8 [S, S, 3] and float32 [M, 6]: left, top, right, bottom in pixels of S, label, and
    COUNTED, or CROWD or DIFFICULT for what neither counts nor is trained on. M is the same for all pictures, and rows
    without an object are -1 throughout. In training, with a `seed`, there are only rows that count, and a picture with
    an object is augmented, if it is not tiny.
    """

    def __init__(
        self,
        source: Source,
        image_size: int,
        seed: int | None = None,
        augment: v2.Transform | None = None,
        skip_bad: bool = False,
    ) -> None:
        super().__init__(source, image_size, seed, skip_bad)
        self.augment = augment
        self.target_bytes = source.most_objects * COLUMNS * np.dtype(np.float32).itemsize

    def take(self, picture: Annotated, seed: int | None) -> tuple[Image, np.ndarray]:
        image, boxes, labels, ignored, _ = picture
        kinds = np.where(ignored, CROWD if self.source.has_crowds else DIFFICULT, COUNTED)
        if seed is not None:
            boxes, labels, kinds = boxes[~ignored], labels[~ignored], kinds[~ignored]  # no crop looks for the others
            if self.augment is not None and len(boxes):  # a crop needs an object to look for
                image, boxes = shrunk(image, boxes, LARGEST_SHORT_SIDE * self.image_size)
                image, boxes = augmented(image, boxes, self.augment, seed)
        side, (height, width) = self.image_size, image.shape[:2]
        boxes = (boxes * (side / np.array([width, height, width, height], np.float32))).clip(0, side)
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        targets = np.full((self.source.most_objects, COLUMNS), -1, np.float32)
        targets[: has_area.sum()] = np.column_stack([boxes, labels, kinds])[has_area]
        return np.ascontiguousarray(resize(image, side, side)), targets


def open_split(config: ModuleType, split: str, class_names: Sequence[str] | None = None) -> BoxDataset:
    """The "train" pictures of detection/config.py, to be augmented, or the "valid" or "test" ones."""
    source = open_pictures(config, split, class_names)
    if split != "train":
        return BoxDataset(source, config.image_size)
    return BoxDataset(source, config.image_size, config.seed, augmentation(config), config.bad_images == "skip")


def shrunk(image: Image, boxes: np.ndarray, largest_short_side: int) -> tuple[Image, np.ndarray]:
    """A picture and its boxes, float32 [N, 4], with at most so many pixels in its short side, and LARGEST_AREA squares
    of that in all.

    A photo of 12 megapixels on a canvas of 16 times its area would take 576 MB, and its copies as much.
    """
    height, width = image.shape[:2]
    ratio = largest_short_side * min(1 / min(height, width), math.sqrt(LARGEST_AREA / (height * width)))
    if ratio >= 1:
        return image, boxes
    size = max(1, round(ratio * height)), max(1, round(ratio * width))
    scale = np.array([size[1] / width, size[0] / height] * 2, np.float32)
    return resize(image, *size), boxes * scale


def augmented(image: Image, boxes: np.ndarray, augment: v2.Transform, seed: int) -> tuple[Image, np.ndarray]:
    """The picture and its boxes, float32 [N, 4], as a function of the seed; one whose centre is cut off has no area.

    A tiny picture stays as it is.
    """
    if min(image.shape[:2]) < LEAST_CROPPED_SIDE:
        return image, boxes
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
    """What SSDLite.losses() takes of a batch [N, M, 6]: what counts, with sides of LEAST_BOX_SIDE or more."""
    sides = rows[..., 2:4] - rows[..., :2]
    has_loss = (rows[..., KIND] == COUNTED) & (sides >= LEAST_BOX_SIDE).all(2)  # in a row without an object all is -1
    counted = [each[chosen] for each, chosen in zip(rows, has_loss, strict=True)]
    return [{"boxes": each[:, :4], "labels": each[:, LABEL].long() + 1} for each in counted]
