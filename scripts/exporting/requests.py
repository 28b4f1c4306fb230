# SPDX-License-Identifier: Apache-2.0
"""What one export is to be: the choices of the user, and all that the writer of a format gets."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from core.pixels import Image

FLOAT_INPUT, LEVEL_INPUT = "float-nchw", "uint8-nhwc"
POST_TRAINING, TRAINED = "post-training", "qat"


class Choices(NamedTuple):
    """One export as the user chose it."""

    format: str  # a key of formats.FORMATS
    int8: str  # "" for float, POST_TRAINING or TRAINED
    input: str  # FLOAT_INPUT: normalised float32 [N, 3, S, S]; LEVEL_INPUT: uint8 levels [N, S, S, 3]
    softmax: bool  # probabilities instead of logits
    batch: str  # "1" or "dynamic"


class Request(NamedTuple):
    """What the writer of a format gets."""

    choices: Choices
    network: nn.Module  # networks.plain_network(): float32, in eval mode, takes and gives what `choices` says
    image_size: int
    mean: list[float]  # of each RGB channel, as shares of white
    std: list[float]
    calibration: "Image | None"  # uint8 levels [N, S, S, 3] for an int8 export, None for a float one
    description: dict[str, Any]  # descriptions.describe(): what the file is to say of itself
    folder: Path  # to write into
    name: str  # of the files, without what follows the dot
    # Of the layers of an int8 network: what the weights of each channel are multiples of, float [C].
    weight_steps: Mapping[str, torch.Tensor] = MappingProxyType({})

    def inputs(self, images: "Image") -> np.ndarray:
        """What the network takes for uint8 levels [N, S, S, 3]."""
        if self.choices.input == LEVEL_INPUT:
            return images
        from imgproc import normalize  # not above: what LiteRT's converter runs in has no OpenCV

        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return normalize(torch.from_numpy(images).permute(0, 3, 1, 2), mean, std).contiguous().numpy()

    def example(self, batch: int = 1) -> torch.Tensor:
        """Zeros of the shape and type that the network takes."""
        size = self.image_size
        return torch.from_numpy(self.inputs(np.zeros((batch, size, size, 3), np.uint8)))
