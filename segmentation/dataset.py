# SPDX-License-Identifier: Apache-2.0
"""Pictures with a class for every pixel: scenes of digits or a folder, cropped at random with their masks."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from core.annotated_folders import open_source
from core.annotated_images import Annotated, choose_classes
from core.digit_scenes import DigitScenes, Scene
from core.pixels import Image
from core.settings import config_lines
from utils import torch_seed

__all__ = ["BACKGROUND", "MaskedImages", "SceneSource", "open_pictures"]

DIGITS = Path(__file__).resolve().parent.parent / "data/digits.csv.gz"
BACKGROUND = "background"
SPLITS = {"train": ("train", 0), "valid": ("valid", 0), "test": ("valid", 1)}  # the digits, the seed of the scenes


class Source(Protocol):
    """Images uint8 [H, W, 3] and masks uint8 [H, W] of any size, as those of core.annotated_images."""

    root: str
    classes: list[str]  # without the background
    notes: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scene | Annotated: ...

    def path(self, index: int) -> str:
        """What one of them is called in messages."""
        ...


class SceneSource(DigitScenes):
    """Scenes of digits to segment, as many as `count`; `split`: "train", or "valid" or "test" with other digits."""

    def __init__(self, split: str, count: int, image_size: int) -> None:
        digits, seed = SPLITS[split]
        super().__init__(DIGITS, digits, seed=seed, num_scenes=count, side=image_size)
        self.root, self.classes, self.notes = f"{split} scenes", list(map(str, range(10))), list[str]()

    def path(self, index: int) -> str:
        """What one scene is called in messages."""
        return f"scene {index} of {self.root}"


def open_pictures(config: ModuleType, split: str, class_names: Sequence[str] | None = None) -> Source:
    """The "train", "valid" or "test" pictures of segmentation/config.py; prints the lines about them.

    `class_names`: those of the training, the background first. Raises: FileNotFoundError, ValueError if the classes are
    others or not model_num_classes, or as core.annotated_folders.open_source().
    """
    classes = class_names[1:] if class_names else None
    source: Source
    if config.data_dir:
        source = open_source(config.data_dir, getattr(config, f"{split}_split"), masks=True, classes=classes)
    else:
        source = SceneSource(split, getattr(config, f"{split}_scenes"), config.image_size)
        choose_classes(source.classes, classes, source.root, masks=True)
    found = 1 + len(source.classes)
    if config.model_num_classes != found:
        line = config_lines(config).get("model_num_classes", "?")
        raise ValueError(
            f"config.py line {line}: model_num_classes = {config.model_num_classes}, but {source.root} has "
            f"{found} classes with the background; set it to {found}, or correct data_dir"
        )
    for note in source.notes:
        print(note)
    return source


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
        item = self.source[index]
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
