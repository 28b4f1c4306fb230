# SPDX-License-Identifier: Apache-2.0
"""What a file says of how its weights are used, beside the weights."""

from typing import NamedTuple


class Facts(NamedTuple):
    """Values by their names in config.py, None where a file does not say them, and lines for people."""

    model_padding: str | None = None
    model_batch_norm_eps: float | None = None
    image_size: int | None = None
    model_mean_parameters: list[float] | None = None
    model_std_parameters: list[float] | None = None
    notes: tuple[str, ...] = ()
    are_usual: bool = False  # what files of the kind have, where the file itself says nothing
    is_folded: bool = False  # its batch-norm has gone into the convolutions, and its eps with it
