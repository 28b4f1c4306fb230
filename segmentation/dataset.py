# SPDX-License-Identifier: Apache-2.0
"""Pictures with a class for every pixel: scenes of digits, cropped at random with their masks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from core.digit_scenes import split_scenes
from core.pixels import Image
from utils import torch_seed

__all__ = ["CLASSES", "IGNORED", "SceneMasks"]

CLASSES = ["background", *map(str, range(10))]
IGNORED = 255  # of a mask: pixels that count neither in the loss nor in a score


class SceneMasks(Dataset[tuple[Image, np.ndarray]]):
    """Scenes of digits to segment, as many as `count`; `split`: "train", or "valid" or "test" with other digits.

    dataset[epoch, index] -> uint8 [S, S, 3] and uint8 [S, S], a place in CLASSES for each pixel. With a `seed`
    (training) and a `crop_scale` a part of the scene, by its share of the area, is cropped and resized to S: a function
    of (seed, epoch, index).
    """

    def __init__(
        self,
        split: str,
        count: int,
        image_size: int,
        seed: int | None = None,
        crop_scale: Sequence[float] | None = None,
    ) -> None:
        self.scenes = split_scenes(split, count, image_size)
        self.seed = seed
        self.crop = v2.RandomResizedCrop(image_size, tuple(crop_scale)) if crop_scale else None
        self.root, self.classes, self.targets = f"{split} scenes", CLASSES, range(count)

    def __len__(self) -> int:
        return len(self.scenes)

    def path(self, index: int) -> str:
        """What one scene is called in messages."""
        return f"scene {index} of {self.root}"

    def __getitem__(self, key: tuple[int, int]) -> tuple[Image, np.ndarray]:
        epoch, index = key
        image, _, _, mask = self.scenes[index]
        if self.seed is None or self.crop is None:
            return image, mask
        pixels = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own generator
            torch.manual_seed(torch_seed(self.seed, epoch, index))
            cropped, classes = self.crop(pixels, tv_tensors.Mask(torch.from_numpy(mask)))
        return to_array(cropped.permute(1, 2, 0)), to_array(classes)


def to_array(pixels: Tensor) -> np.ndarray:
    return np.ascontiguousarray(pixels.numpy())
