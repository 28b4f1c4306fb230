# SPDX-License-Identifier: Apache-2.0
"""The pictures of a source as the loader of dataset.py asks for them."""

from abc import ABC, abstractmethod

import numpy as np
from torch.utils.data import Dataset

from core.annotated_images import Annotated
from core.picture_sources import Source
from core.pixels import Image
from core.seeds import torch_seed


class PictureDataset(Dataset[tuple[Image, np.ndarray] | None], ABC):
    """dataset[epoch, index] -> what a network takes of a picture, as take() of a task's dataset gives it.

    With a `seed` (training) that is a function of (seed, epoch, index). With `skip_bad` the item of a picture that
    cannot be read is None; else ValueError or OSError is raised.
    """

    target_bytes: int  # of the targets of a picture

    def __init__(self, source: Source, image_size: int, seed: int | None = None, skip_bad: bool = False) -> None:
        self.source, self.image_size, self.seed, self.skip_bad = source, image_size, seed, skip_bad
        self.root, self.path, self.classes = source.root, source.path, source.classes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Image, np.ndarray] | None:
        epoch, index = key
        try:
            picture = self.source[index if self.seed is None else number_in_epoch(self.source, epoch, index)]
        except (ValueError, OSError):
            if self.skip_bad:
                return None
            raise
        return self.take(picture, None if self.seed is None else torch_seed(self.seed, epoch, index))

    @abstractmethod
    def take(self, picture: Annotated, seed: int | None) -> tuple[Image, np.ndarray]:
        """The image uint8 [S, S, 3] and its targets, of the same shape for all pictures; a `seed` augments them."""


def number_in_epoch(source: Source, epoch: int, index: int) -> int:
    """Which picture of a source a training takes as that of `index` in an epoch."""
    return epoch * len(source) + index if source.is_endless else index
