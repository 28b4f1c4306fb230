# SPDX-License-Identifier: Apache-2.0
"""Without weights of an earlier training, the networks of detection and segmentation begin with few layers."""

import importlib

import pytest
import torch
from torch import nn

from model import STAGES, InvertedResidual


def create_network(task: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = importlib.import_module(f"{task}.model").create_network(
        importlib.import_module(f"{task}.config")
    )
    return network


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_fresh_blocks_with_a_skip_give_their_input(task: str) -> None:
    """All but the first of each row of Table 2 have one: 10."""
    blocks = [block for block in create_network(task).modules() if isinstance(block, InvertedResidual)]
    with_skip = [block for block in blocks if block.has_skip]
    assert len(with_skip) == sum(stage.repeats - 1 for stage in STAGES) == 10
    for block in blocks:
        x = torch.randn(2, block.conv[0][0].in_channels, 8, 8)
        assert torch.equal(block.train()(x), x) == block.has_skip


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_fresh_blocks_with_a_skip_learn_from_the_first_step(task: str) -> None:
    """The scale has a gradient where it is 0; the layers before it get theirs from then on."""
    block = next(block for block in create_network(task).modules() if getattr(block, "has_skip", False))
    block.train()(torch.randn(2, block.conv[0][0].in_channels, 8, 8)).square().sum().backward()
    assert block.conv[-1].weight.grad.abs().min() > 0
    assert block.conv[-2].weight.grad.abs().max() == 0
