# SPDX-License-Identifier: Apache-2.0
"""Mean and standard deviation of images, from what a network does with their values before its first layer."""

from pathlib import Path

import torch

from converting.graphs import Operation
from core.settings import SHARED_RULES

Normalisation = tuple[list[float], list[float]]
SOUND_STD = (0.05, 2.0)  # of values from 0 to 1; those of values from 0 to 255 are far from it


def normalisation_of(
    scales: list[Operation], quantised: Normalisation | None, path: Path
) -> Normalisation | tuple[None, None]:
    """Mean and std, as config.py has them, of images from 0 to 1. (None, None) if a file says nothing of them.

    `scales`: its multiplications and additions in their order; `quantised`: what the integers of its input stand for.
    Whether the network takes values up to 1 or to 255 shows in the deviation: only one of the two can be sound.
    Raises: ValueError for one that config.py cannot have.
    """
    if not scales and quantised is None:
        return None, None
    factor, shift = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for scale in scales:  # of 1 value or of 3
        factor, shift = (scale.tensors["factor"] * values for values in (factor, shift))
        shift = shift + scale.tensors["shift"]
    if quantised is not None:  # x = (image - mean) / std
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in quantised)
        factor, shift = factor / std, shift - factor * mean / std
        ranges = [1.0]
    else:
        ranges = [1.0, 255.0]
    for highest in ranges:
        std = 1 / (factor * highest)
        mean = -shift * std
        if bool(((std >= SOUND_STD[0]) & (std <= SOUND_STD[1])).all()):
            found = [[float(f"{value:.6g}") + 0.0 for value in values.tolist()] for values in (mean, std)]
            if SHARED_RULES["model_mean_parameters"][0](found[0]):
                return found[0], found[1]
    raise ValueError(
        f"{path}: it computes {[round(v, 4) for v in factor.tolist()]} times the values of an image plus "
        f"{[round(v, 4) for v in shift.tolist()]}, and no mean and deviation of config.py do that"
    )
