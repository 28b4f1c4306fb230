# SPDX-License-Identifier: Apache-2.0
"""Pictures with a class for every pixel: scenes of digits or a folder, cropped at random with their masks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from core.picture_sources import BACKGROUND, Source, number_in_epoch, read_picture
from core.pixels import Image
from utils import drawing_from, torch_seed


class MaskedImages(Dataset[tuple[Image, np.ndarray] | None]):
    """The pictures of a source as a network takes them.

    dataset[epoch, index] -> uint8 [S, S, 3] and uint8 [S, S], a place in `classes` for each pixel, or 255 to ignore.
    Without a `seed` the whole picture is resized to S x S, whatever its shape. With one (training) a part of it is, its
    share of the area within `crop_scale` and its sides from 3:4 to 4:3, unless `crop_scale` is None; and it is flipped
    with `flip_probability`: all a function of (seed, epoch, index). The picture is interpolated with antialiasing, the
    mask takes the nearest pixel. With `skip_bad` the item of a picture that cannot be read is None; else ValueError or
    OSError is raised.
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
        self.source, self.image_size, self.seed, self.skip_bad = source, image_size, seed, skip_bad
        self.crop = v2.RandomResizedCrop(image_size, tuple(crop_scale)) if crop_scale else None
        self.flip_probability = flip_probability
        # What train.py and its loader ask of a dataset besides; a mask has a byte for each pixel.
        self.root, self.path, self.target_bytes = source.root, source.path, image_size**2
        self.classes = [BACKGROUND, *source.classes]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Image, np.ndarray] | None:
        epoch, index = key
        number = index if self.seed is None else number_in_epoch(self.source, epoch, index)
        item = read_picture(self.source, number, self.skip_bad)
        if item is None:
            return None
        if item.mask is None:
            raise ValueError(f"{self.path(index)}: opened without masks")
        pixels, mask = torch.from_numpy(item.image).permute(2, 0, 1), torch.from_numpy(item.mask)[None]
        if self.seed is not None:
            with drawing_from(torch_seed(self.seed, epoch, index)):
                pixels, mask = self.augmented(pixels, mask)
        size = [self.image_size] * 2
        pixels = functional.resize(pixels, size, antialias=True)
        mask = functional.resize(mask, size, InterpolationMode.NEAREST_EXACT)
        return to_array(pixels.permute(1, 2, 0)), to_array(mask[0])

    def augmented(self, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A part of a picture [3, H, W] and of its mask [1, H, W], flipped or not, by torch's generator."""
        if self.crop:
            place = self.crop.make_params([pixels])
            corner, sides = [place["top"], place["left"]], [place["height"], place["width"]]
            pixels, mask = (functional.crop(each, *corner, *sides) for each in (pixels, mask))
        if torch.rand(1) < self.flip_probability:
            pixels, mask = pixels.flip(-1), mask.flip(-1)
        return pixels, mask


def to_array(pixels: Tensor) -> np.ndarray:
    return np.ascontiguousarray(pixels.numpy())
