# SPDX-License-Identifier: Apache-2.0
"""How the networks of detection and segmentation begin where no weights are loaded."""

from typing import Any

from torch import nn

from model import InvertedResidual

__all__ = ["start_as_identities"]


def start_as_identities(network: nn.Module) -> None:
    """Let each block that adds its input give just that at first: the scale of its last batch-norm becomes 0.

    So the first steps train few layers, and the others join in as far as they help: a short training from fresh
    weights gets further. Source: arXiv:1706.02677, section 5.1.
    """
    for block in network.modules():
        if isinstance(block, InvertedResidual) and block.has_skip:
            last: Any = block.conv[-1]
            nn.init.zeros_(last.weight)
