# SPDX-License-Identifier: Apache-2.0
"""Pictures with a class for every pixel: scenes of digits or a folder, augmented with their masks."""

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from core.annotated_images import Annotated
from core.picture_datasets import PictureDataset
from core.picture_sources import BACKGROUND, Source, open_pictures
from core.pixels import Image
from core.seeds import drawing_from
from imgproc import resize


class MaskedImages(PictureDataset):
    """The pictures of a source, and their masks.

    dataset[epoch, index] -> uint8 [S, S, 3] and uint8 [S, S], a place in `classes` for each pixel, or 255 to ignore.
    The whole picture is resized to S x S, whatever its shape. In training, with a `seed`, a part of it is, if
    `crop_scale` is not None, chosen as torchvision's RandomResizedCrop does; and it is flipped with `flip_probability`.
    The picture is interpolated with antialiasing, the mask takes the nearest pixel.
    """

    def __init__(
        self,
        source: Source,
        image_size: int,
        seed: int | None = None,
        crop_scale: Sequence[float] | None = None,
        flip_probability: float = 0.0,
        skip_bad: bool = False,
    ) -> None:
        super().__init__(source, image_size, seed, skip_bad)
        self.crop = v2.RandomResizedCrop(image_size, tuple(crop_scale)) if crop_scale else None  # it only chooses
        self.flip_probability = flip_probability
        self.target_bytes = image_size**2
        self.classes = [BACKGROUND, *source.classes]

    def take(self, picture: Annotated, seed: int | None) -> tuple[Image, np.ndarray]:
        if picture.mask is None:
            raise ValueError(f"{self.root}: opened without masks")
        pixels, mask = torch.from_numpy(picture.image).permute(2, 0, 1), torch.from_numpy(picture.mask)[None]
        if seed is not None:
            with drawing_from(seed):
                pixels, mask = self.augmented(pixels, mask)
        side = self.image_size
        image = resize(pixels.permute(1, 2, 0).numpy(), side, side)
        mask = functional.resize(mask, [side, side], InterpolationMode.NEAREST_EXACT)
        return np.ascontiguousarray(image), np.ascontiguousarray(mask[0].numpy())

    def augmented(self, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A part of a picture [3, H, W] and of its mask [1, H, W], flipped or not, by torch's generator."""
        if self.crop:
            place = self.crop.make_params([pixels])
            pixels, mask = functional.crop(pixels, **place), functional.crop(mask, **place)
        if torch.rand(1) < self.flip_probability:
            pixels, mask = pixels.flip(-1), mask.flip(-1)
        return pixels, mask


def open_split(config: ModuleType, split: str, class_names: Sequence[str] | None = None) -> MaskedImages:
    """The "train" pictures of segmentation/config.py, to be augmented, or the "valid" or "test" ones."""
    source = open_pictures(config, split, class_names, masks=True)
    if split != "train":
        return MaskedImages(source, config.image_size)
    augment = config.random_crop_scale, config.random_flip_probability
    return MaskedImages(source, config.image_size, config.seed, *augment, config.bad_images == "skip")
