# SPDX-License-Identifier: Apache-2.0
"""Counts and averages of an epoch."""

import math

import pytest
import torch

from core import metrics

CPU = torch.device("cpu")


def test_topk_hits_counts_by_hand() -> None:
    logits = torch.tensor([[9.0, 1, 2, 3, 4, 5, 0], [1, 9, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 6, 0]])
    # true classes: the highest, the fifth of seven, the lowest
    assert metrics.topk_hits(logits, torch.tensor([0, 2, 6])).tolist() == [1, 2]
    assert metrics.topk_hits(logits, torch.tensor([0, 1, 5])).tolist() == [3, 3]


@pytest.mark.parametrize("num_classes", [1, 2, 3, 4])
def test_top_5_of_fewer_classes_counts_every_image(num_classes: int) -> None:
    logits = torch.randn(6, num_classes, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(6) % num_classes
    expected = int((logits.argmax(dim=1) == targets).sum())
    assert metrics.topk_hits(logits, targets).tolist() == [expected, 6]


def test_topk_hits_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="2 rows of logits, 3 targets"):
        metrics.topk_hits(torch.zeros(2, 5), torch.zeros(3, dtype=torch.int64))


def test_meter_weighs_batches_by_their_images() -> None:
    meter = metrics.EpochMeter(CPU)
    logits = torch.eye(6)
    meter.add(torch.tensor(1.0), logits, torch.arange(6))  # six images, all right
    meter.add(torch.tensor(4.0), logits[:2], torch.tensor([5, 5]))  # two images, both wrong; class 5 is in the top 5?
    averages = meter.averages()
    assert averages["loss"] == pytest.approx((6 * 1.0 + 2 * 4.0) / 8)
    assert averages["acc1"] == pytest.approx(75.0)
    assert averages["images"] == 8


def test_macro_accuracy_gives_each_class_the_same_weight() -> None:
    """Class 0: 3 of 4 right; class 1: none of 1; class 2 has no image; class 3: 1 of 1."""
    hits = metrics.ClassHits(4, CPU)
    assert math.isnan(hits.macro())  # of no image at all
    for targets, answers in (([0, 0, 0], [0, 0, 1]), ([0, 1, 3], [0, 2, 3])):
        hits.add(torch.eye(4)[answers], torch.tensor(targets))
    assert hits.macro() == pytest.approx((75 + 0 + 100) / 3)


def test_equal_logits_count_the_same_everywhere() -> None:
    """In classes of as many images macro accuracy is accuracy; of equal ones topk() and argmax() take others."""
    levels = torch.randint(3, (600, 7), generator=torch.Generator().manual_seed(0)).float()
    targets = torch.arange(600) % 6
    assert (levels.topk(5).indices[:, 0] != levels.argmax(1)).any()
    scores = metrics.ClassScores(7, CPU)
    scores.add(levels, targets)
    found = scores.of_all("")
    assert found["macro"] == pytest.approx(found["acc1"])


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_meter_stops_at_a_loss_that_is_not_finite(loss: float) -> None:
    meter = metrics.EpochMeter(CPU)
    meter.add(torch.tensor(loss), torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(FloatingPointError, match="lower model_lr in config.py"):
        meter.averages()


@pytest.mark.parametrize(
    ("num_classes", "shown"),
    [(6, "Acc@1 83.90 Acc@5 95.90 Err@1 16.10 Err@5 4.10"), (5, "Acc@1 83.90 Err@1 16.10")],
)
def test_best_five_of_five_classes_are_not_shown(num_classes: int, shown: str) -> None:
    scores = {"loss": 0.6, "acc1": 83.9, "acc5": 95.9, "err1": 16.1, "err5": 4.1}
    assert metrics.show_scores(scores, num_classes, 2) == shown
