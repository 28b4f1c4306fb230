# SPDX-License-Identifier: Apache-2.0
"""exporting/verification.py: figures worked out by hand, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from exporting.images import Images
from exporting.requests import FLOAT_INPUT, Choices, Request
from exporting.verification import Scores, compare, compare_batches, count_layers, refuse, score


def request_for(int8: str = "", softmax: bool = False) -> Request:
    choices = Choices("onnx", int8, FLOAT_INPUT, softmax, "1")
    return Request(choices, torch.nn.Identity(), 32, [0.5] * 3, [0.5] * 3, None, {}, Path("."), "network")


def scores_of(logits: list[list[float]]) -> Scores:
    return Scores(torch.tensor(logits), 0.0, 0.0, 0.0)


def test_scores_are_those_worked_out_by_hand() -> None:
    """Of four images three are right: both of class 0, one of two of class 2."""
    targets = np.array([0, 0, 2, 2])
    images = Images("", np.array([[[[0]]], [[[0]]], [[[2]]], [[[6]]]], np.uint8), targets, [])

    def run(levels: np.ndarray) -> torch.Tensor:
        return torch.eye(7)[torch.from_numpy(levels[:, 0, 0, 0]).long()] * 9 + torch.linspace(1, 0, 7)

    found = score(run, images)
    assert found.logits.shape == (4, 7)
    assert found.top1 == 75
    assert found.top5 == 100  # the last image has class 6 first, then 0, 1, 2, 3
    assert found.macro == 75  # of the classes there are: (100 + 50) / 2


def test_comparison_counts_answers_and_differences() -> None:
    found = Scores(torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 3.0]]), 1.5, 2.5, 3.5)
    expected = Scores(torch.tensor([[1.0, 2.5], [0.0, 3.25], [0.0, 3.0]]), 4.5, 5.5, 6.5)
    figures = compare(request_for(), found, expected)
    assert figures["images"] == 3
    assert figures["equal_answers"] == 66.667
    assert figures["largest_difference"] == 3.25
    assert figures["largest_logit"] == 3.25
    assert figures["saturated_outputs"] == 0
    few = Scores(torch.tensor([[1.0, 2.0], [1.5, 0.0], [0.0, 2.5]]), 0, 0, 0)
    assert compare(request_for(), few, expected)["saturated_outputs"] == 2  # 3.25 and 3 are above 2.5 + 0.25
    assert [figures[name] for name in ("top1", "top5", "macro")] == [1.5, 2.5, 3.5]
    assert [figures[f"float_{name}"] for name in ("top1", "top5", "macro")] == [4.5, 5.5, 6.5]


def test_probabilities_are_compared_as_such() -> None:
    logits = torch.tensor([[1.0, 5.0], [2.0, -1.0]])
    found = Scores((logits.exp() / logits.exp().sum(1, keepdim=True)).log(), 0, 0, 0)
    figures = compare(request_for(softmax=True), found, Scores(logits, 0, 0, 0))
    assert figures["largest_difference"] < 1e-6


def test_single_images_are_compared_with_batches() -> None:
    levels = np.arange(4, dtype=np.uint8)[:, None, None, None]
    whole = torch.arange(4.0)[:, None]
    figures = compare_batches(
        lambda part: torch.from_numpy(part[:, 0, 0] + 0.25 * (len(part) == 1)).float(), levels, whole
    )
    assert figures["largest_difference_of_batches"] == 0.25
    figures = compare_batches(
        lambda part: torch.from_numpy(part[:, 0, 0] + 0.5 * (len(part) == 3)).float(), levels, whole
    )
    assert figures["largest_difference_of_batches"] == 0.5


FIGURES = {
    **{"images": 1000, "float_top1": 83.9, "top1": 83.6, "float_macro": 83.9, "macro": 83.6, "saturated_outputs": 10},
    **{"largest_logit": 20.0, "largest_difference": 1e-4, "largest_difference_of_batches": 0.0},
}


@pytest.mark.parametrize(
    ("int8", "changed", "words"),
    [
        ("", {}, None),
        ("post-training", {}, None),
        ("", {"largest_difference": 3e-4}, "a logit differs by 3.0e-04"),
        ("", {"largest_difference": float("nan")}, "a logit differs by nan"),
        ("post-training", {"largest_difference": 3.0}, None),
        ("", {"largest_difference_of_batches": 1e-3}, "depend on the size of the batch"),
        ("post-training", {"largest_difference_of_batches": 2.0}, "depend on the size of the batch"),
        ("post-training", {"top1": 83.3}, "loses 0.60 points of top1 accuracy .83.90 in float., above --most-lost 0.5"),
        ("post-training", {"macro": 83.2}, "loses 0.70 points of macro accuracy"),
        ("post-training", {"top1": 84.9, "macro": 84.9}, None),  # better by chance
        ("post-training", {"images": 50, "top1": 80.0, "saturated_outputs": 3}, None),  # two answers of 50
        ("post-training", {"images": 50, "top1": 78.0, "saturated_outputs": 0}, "loses 5.90 points"),
        ("post-training", {"saturated_outputs": 51}, "51 of 1000 images have logits above what int8 can hold"),
    ],
)
def test_limits(int8: str, changed: dict[str, float], words: str | None) -> None:
    arguments = (request_for(int8), FIGURES | changed, 0.5)
    if words is None:
        refuse(*arguments)
        return
    with pytest.raises(ValueError, match=words) as error:
        refuse(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("counts", [(52, 1), (48, 1), (52, 0)])
def test_every_layer_must_be_in_int8(counts: tuple[int, int]) -> None:
    writer: Any = SimpleNamespace(count_int8=lambda path: counts)
    if counts == (52, 1):
        assert count_layers(writer, Path("a.onnx")) == {"int8_convolutions": 52, "int8_linear_layers": 1}
        return
    with pytest.raises(ValueError, match=f"a.onnx: {counts[0]} of 52 convolutions and {counts[1]} of 1 linear layers"):
        count_layers(writer, Path("a.onnx"))
