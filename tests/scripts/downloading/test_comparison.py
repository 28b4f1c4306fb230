# SPDX-License-Identifier: Apache-2.0
"""Differences between measured and published accuracies, worked out by hand."""

from downloading.comparison import compare, compare_again, comparison_table, describe_reach
from downloading.published import published_weights

PUBLISHED = published_weights()
LARGE = compare(PUBLISHED["keras 1.0 224"], {"acc1": 71.338, "acc5": 90.138})
SMALL = compare(PUBLISHED["keras 0.35 96"], {"acc1": 45.512, "acc5": 70.4})


def test_differences_are_in_hundredths_of_a_percent() -> None:
    """Published are 71.8 and 91.0, 45.5 and 70.4."""
    assert LARGE.hundredths() == (-46, -86)
    assert SMALL.hundredths() == (1, 0)


def test_keras_own_figures_are_those_of_its_files_for_224_pixels() -> None:
    """71.336 and 90.142."""
    again = compare_again(LARGE)
    assert again is not None and again.hundredths() == (0, 0)
    assert compare_again(SMALL) is None


def test_table_has_a_row_for_each() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in comparison_table([LARGE, SMALL]).splitlines()]
    assert rows[2] == ["keras 1.0 224", "71.8", "91.0", "71.338", "90.138", "-46", "-86"]
    assert rows[3] == ["keras 0.35 96", "45.5", "70.4", "45.512", "70.400", "+1", "+0"]


def test_reach_is_the_largest_difference_in_either_direction() -> None:
    reach = "2 networks: top-1 within 46 hundredths of a per cent, top-5 within 86."
    assert describe_reach([LARGE, SMALL]) == reach
    assert describe_reach([SMALL]) == "1 network: top-1 within 1 hundredth of a per cent, top-5 within 0."
