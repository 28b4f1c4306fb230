# SPDX-License-Identifier: Apache-2.0
"""Pictures with a class for every pixel: scenes of digits or a folder, cropped at random with their masks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from core.picture_sources import BACKGROUND, Source, number_in_epoch
from core.pixels import Image
from utils import torch_seed

__all__ = ["MaskedImages"]


class MaskedImages(Dataset[tuple[Image, np.ndarray]]):
    """The pictures of a source as a network takes them.

    dataset[epoch, index] -> uint8 [S, S, 3] and uint8 [S, S], a place in `classes` for each pixel, or 255 to ignore.
    Without a `seed` the whole picture is resized to S x S, whatever its shape. With one (training) and a `crop_scale`,
    a part by its share of the area is cropped and resized; and it is flipped with `flip_probability`: all a function of
    (seed, epoch, index). The picture is interpolated with antialiasing, the mask takes the nearest pixel.
    """

    def __init__(
        self,
        source: Source,
        image_size: int,
        seed: int | None = None,
        crop_scale: Sequence[float] | None = None,
        flip_probability: float = 0.0,
    ) -> None:
        self.source, self.image_size, self.seed = source, image_size, seed
        crop = v2.RandomResizedCrop(image_size, tuple(crop_scale)) if crop_scale else v2.Resize([image_size] * 2)
        self.augment = v2.Compose([crop, v2.RandomHorizontalFlip(flip_probability)])
        self.resize = v2.Resize([image_size] * 2)
        self.root, self.path, self.targets = source.root, source.path, range(len(source))
        self.classes = [BACKGROUND, *source.classes]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Image, np.ndarray]:
        epoch, index = key
        item = self.source[index if self.seed is None else number_in_epoch(self.source, epoch, index)]
        if item.mask is None:
            raise ValueError(f"{self.path(index)}: opened without masks")
        pixels = tv_tensors.Image(torch.from_numpy(item.image).permute(2, 0, 1))
        mask = tv_tensors.Mask(torch.from_numpy(item.mask))
        if self.seed is None:
            pixels, mask = self.resize(pixels, mask)
        else:
            with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own generator
                torch.manual_seed(torch_seed(self.seed, epoch, index))
                pixels, mask = self.augment(pixels, mask)
        return to_array(pixels.permute(1, 2, 0)), to_array(mask)


def to_array(pixels: Tensor) -> np.ndarray:
    return np.ascontiguousarray(pixels.numpy())
