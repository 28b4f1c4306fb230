# SPDX-License-Identifier: Apache-2.0
"""The weighted loss, against numbers made by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from core.training_loss import balanced_weights, create_criterion


def test_each_class_counts_the_same_in_all() -> None:
    weights = balanced_weights([100, 50, 10])
    assert weights.tolist() == pytest.approx([160 / 300, 160 / 150, 160 / 30])
    assert (weights * torch.tensor([100, 50, 10])).tolist() == pytest.approx([160 / 3] * 3)


@pytest.mark.parametrize(("class_weights", "expected"), [(None, (3 + 1) / 4), ("balanced", (2 / 3 * 3 + 2 * 1) / 4)])
def test_balanced_loss_by_hand(class_weights: str | None, expected: float) -> None:
    """Three images of class 0, whose class gets 1/2, and one of class 1, whose class gets 1/2: in nats over ln 2.

    Classes of 3 and 1 images weigh 2 / 3 and 2; the mean is taken over the weights 2 + 2.
    """
    state = SimpleNamespace(class_counts=[3, 1], device=torch.device("cpu"))
    criterion = create_criterion(SimpleNamespace(class_weights=class_weights, loss_label_smoothing=0.0), state)
    loss = criterion(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1]))
    assert loss.item() == pytest.approx(expected * math.log(2))


def test_a_rare_class_pulls_as_much_as_a_common_one() -> None:
    """The gradient of a bias of even logits: without weights it points to the common class."""
    gradients = {}
    for class_weights in (None, "balanced"):
        state = SimpleNamespace(class_counts=[9, 1], device=torch.device("cpu"))
        criterion = create_criterion(SimpleNamespace(class_weights=class_weights, loss_label_smoothing=0.0), state)
        bias = torch.zeros(2, requires_grad=True)
        criterion(bias.expand(10, 2), torch.tensor([0] * 9 + [1])).backward()
        gradients[class_weights] = bias.grad.tolist()
    assert gradients[None] == pytest.approx([-0.4, 0.4])  # share given, 1/2, less the share there is, 9/10
    assert gradients["balanced"] == pytest.approx([0.0, 0.0], abs=1e-7)
