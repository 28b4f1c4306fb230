# SPDX-License-Identifier: Apache-2.0
"""The figures of the report, against numbers worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from prediction_files import predictions_of

from reporting.figures import (
    calibrate,
    confident_mistakes,
    confused_pairs,
    confusion_matrix,
    count_classes,
    doubtful_labels,
    top_hits,
    unsure_hits,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_interval_is_that_of_the_tables(right: int, count: int, low: float, high: float) -> None:
    """81 of 263: R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert [float(end) for end in wilson_interval(right, count)] == pytest.approx([low, high], abs=6e-5)


ANSWERS = "a: a 0.9, b 0.1; a: b 0.6, a 0.4; a: a 0.7, b 0.3; a: c 0.5, b 0.4; b: b 0.8, a 0.2; b: a 1, b 0"


def test_classes_are_counted_and_the_worst_comes_first(tmp_path: Path) -> None:
    figures = count_classes(predictions_of(tmp_path, ANSWERS))
    assert figures.counts.tolist() == [4, 2, 0]
    assert figures.right.tolist() == [2, 1, 0]
    assert figures.macro() == 0.5  # c has no images
    assert figures.worst_first().tolist() == [0, 1]  # as good, but of more images


def test_macro_accuracy_counts_every_class_the_same(tmp_path: Path) -> None:
    figures = count_classes(predictions_of(tmp_path, "a: a 1; a: a 1; a: a 1; b: a 1"))
    assert figures.macro() == 0.5
    assert figures.worst_first().tolist() == [1, 0]


def test_confusions_are_counted(tmp_path: Path) -> None:
    predictions = predictions_of(tmp_path, ANSWERS)
    assert confusion_matrix(predictions).tolist() == [[2, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert top_hits(predictions) == 5  # all but the fourth


def test_most_frequent_confusion_comes_first_then_the_larger_share(tmp_path: Path) -> None:
    predictions = predictions_of(tmp_path, f"{ANSWERS}; a: c 1, b 0")
    assert [tuple(pair) for pair in confused_pairs(predictions)] == [
        (0, 2, 2, 2 / 5),
        (1, 0, 1, 1 / 2),
        (0, 1, 1, 1 / 5),
    ]


def test_calibration_error_is_the_mean_distance_over_the_images(tmp_path: Path) -> None:
    """Two in the bin of 0.9, one of them right: |0.5 - 0.9|; two in that of 0.5, both right: |1 - 0.5|."""
    predictions = predictions_of(tmp_path, "a: a 0.91; a: b 0.89; a: a 0.48; b: b 0.52")
    figures = calibrate(predictions)
    assert np.flatnonzero(figures.counts).tolist() == [7, 13]  # 0.467 to 0.533, 0.867 to 0.933
    assert figures.expected_error() == pytest.approx((2 * 0.4 + 2 * 0.5) / 4)


def test_edges_of_the_bins_are_their_upper_ends(tmp_path: Path) -> None:
    predictions = predictions_of(tmp_path, "a: a 1; a: a 0; a: a 0.2; a: a 0.200001")
    assert np.flatnonzero(calibrate(predictions).counts).tolist() == [0, 2, 3, 14]


def test_sure_mistakes_and_unsure_hits_come_first(tmp_path: Path) -> None:
    predictions = predictions_of(tmp_path, ANSWERS)
    assert confident_mistakes(predictions).tolist() == [5, 1, 3]
    assert unsure_hits(predictions).tolist() == [2, 4, 0]


def test_doubtful_labels_pass_the_means_of_their_classes(tmp_path: Path) -> None:
    """Images of a get 0.9, 0.7 and 0.05 for a: 0.55 on average; those of b get 0.6, 0.8 and 0.1 for b: 0.5."""
    predictions = predictions_of(
        tmp_path,
        "a: a 0.9, b 0.1; a: a 0.7, b 0.3; a: b 0.95, a 0.05;"  # sure of b: doubtful, 0.9 apart
        "b: b 0.6, a 0.4; b: b 0.8, a 0.2; b: a 0.56, b 0.1",  # as sure of a as is usual: doubtful, 0.46 apart
    )
    assert doubtful_labels(predictions).tolist() == [2, 5]


def test_answers_less_sure_than_is_usual_do_not_make_a_label_doubtful(tmp_path: Path) -> None:
    assert doubtful_labels(predictions_of(tmp_path, "a: b 0.6, a 0.3; b: b 0.9, a 0.1")).tolist() == []
    # nor does a class of which there are no images
    assert doubtful_labels(predictions_of(tmp_path, "a: c 0.9, a 0.1; b: b 0.9, a 0.1")).tolist() == []
