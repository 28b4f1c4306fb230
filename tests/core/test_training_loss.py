# SPDX-License-Identifier: Apache-2.0
"""The loss of uneven classes, against numbers made by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.training_loss import Criterion, create_criterion, create_mixing


def criterion_of(class_weights: str | None, counts: list[int], smoothing: float = 0.0) -> Criterion:
    config = SimpleNamespace(class_weights=class_weights, loss_label_smoothing=smoothing)
    dataset = SimpleNamespace(targets=np.repeat(np.arange(len(counts)), counts))
    return create_criterion(config, SimpleNamespace(dataset=dataset), torch.device("cpu"))


@pytest.mark.parametrize(
    ("class_weights", "expected"),
    [(None, math.log(2)), ("balanced", -(3 * math.log(3 / 4) + math.log(1 / 4)) / 4)],
)
@pytest.mark.parametrize("is_mixed", [False, True])
def test_balanced_loss_by_hand(class_weights: str | None, expected: float, is_mixed: bool) -> None:
    """Three images of class 0 and one of class 1, with even logits: probabilities are 1/2, or the shares, in nats."""
    targets = torch.tensor([0, 0, 0, 1])
    criterion = criterion_of(class_weights, [3, 1])
    loss = criterion(torch.zeros(4, 2), torch.eye(2)[targets] if is_mixed else targets)
    assert loss.item() == pytest.approx(expected)


def test_batches_of_any_size_add_up_to_the_whole() -> None:
    logits, targets = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    criterion = criterion_of("balanced", [9, 6, 1], smoothing=0.1)
    whole = criterion(logits, targets)
    for size in (1, 4, 6):
        parts = [criterion(*batch) for batch in zip(logits.split(size), targets.split(size), strict=True)]
        assert torch.stack(parts).mean().item() == pytest.approx(whole.item())


def test_even_classes_have_the_loss_of_torch() -> None:
    logits, targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    ours, theirs = (criterion_of(kind, [5, 5, 5], smoothing=0.1)(logits, targets) for kind in ("balanced", None))
    assert ours.item() == pytest.approx(theirs.item())


def test_a_rare_class_pulls_as_much_as_a_common_one() -> None:
    """The gradient of a bias of even logits: without weights it points to the common class."""
    gradients = {}
    for class_weights in (None, "balanced"):
        bias = torch.zeros(2, requires_grad=True)
        criterion_of(class_weights, [9, 1])(bias.expand(10, 2), torch.tensor([0] * 9 + [1])).backward()
        gradients[class_weights] = bias.grad.tolist()
    assert gradients[None] == pytest.approx([-0.4, 0.4])  # share given, 1/2, less the share there is, 9/10
    assert gradients["balanced"] == pytest.approx([0.0, 0.0], abs=1e-7)


@pytest.mark.parametrize("target", [0, 1])
def test_smoothing_does_not_hand_every_image_to_a_rare_class(target: int) -> None:
    """The best logits are those of 0.9 of the right class and 0.1 of the shares, each over the shares."""
    shares = torch.tensor([20 / 21, 1 / 21])
    smoothed = 0.1 * shares
    smoothed[target] += 0.9
    logits = (smoothed / shares).log().requires_grad_()
    criterion_of("balanced", [1000, 50], smoothing=0.1)(logits[None], torch.tensor([target])).backward()
    assert logits.grad.tolist() == pytest.approx([0.0, 0.0], abs=1e-7)
    assert logits.argmax() == target


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2)])
def test_mixup_of_images_and_of_outputs(shape: tuple[int, ...]) -> None:
    """One share for all of a batch: of a value in itself, the rest of it in the one before (arXiv:1710.09412)."""
    mix = create_mixing(SimpleNamespace(mixup_alpha=1.0, cutmix_alpha=0.0, model_num_classes=2))
    assert mix is not None
    torch.manual_seed(0)
    values = torch.stack([torch.zeros(shape), torch.ones(shape)])
    mixed, shares = mix(values, torch.tensor([0, 1]))
    share = mixed[1].flatten()[0].item()
    assert 0.02 < share < 0.98
    torch.testing.assert_close(mixed, torch.stack([torch.full(shape, 1 - share), torch.full(shape, share)]))
    torch.testing.assert_close(shares, torch.tensor([[share, 1 - share], [1 - share, share]]))
