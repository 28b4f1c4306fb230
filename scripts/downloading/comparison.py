# SPDX-License-Identifier: Apache-2.0
"""Measured accuracies beside the published ones."""

from typing import Any, NamedTuple

from core.plurals import counted
from downloading.published import Published, markdown_table


class Comparison(NamedTuple):
    """A network's accuracies in %, as somebody published them and as they were measured."""

    published: Published
    wanted: tuple[float, float]  # top-1, top-5
    digits: int  # decimals of these
    measured: tuple[float, float]

    def hundredths(self) -> tuple[int, int]:
        """How far the measured ones are above the published, in hundredths of a per cent."""
        first, second = (
            round(100 * (found - wanted)) for found, wanted in zip(self.measured, self.wanted, strict=True)
        )
        return first, second


def compare(published: Published, scores: dict[str, Any]) -> Comparison:
    """With the figures of its list."""
    wanted = (published.acc1, published.acc5)
    return Comparison(published, wanted, published.digits, (scores["acc1"], scores["acc5"]))


def compare_again(comparison: Comparison) -> Comparison | None:
    """With what Keras measured of the same file, if it did."""
    again = comparison.published.measured_again
    return comparison._replace(wanted=again, digits=3) if again else None


def comparison_table(comparisons: list[Comparison]) -> str:
    """One row a network: published, measured, and the difference in hundredths of a per cent."""
    rows = [["name", "published top-1", "top-5", "measured top-1", "top-5", "difference top-1", "top-5"]]
    for one in comparisons:
        wanted = [f"{value:.{one.digits}f}" for value in one.wanted]
        measured = [f"{value:.3f}" for value in one.measured]
        rows.append([one.published.name, *wanted, *measured, *(f"{value:+d}" for value in one.hundredths())])
    return markdown_table(rows, left=(0,))


def describe_reach(comparisons: list[Comparison]) -> str:
    """Within how many hundredths all of them are reproduced."""
    top1, top5 = (max(map(abs, column)) for column in zip(*(one.hundredths() for one in comparisons), strict=True))
    within = counted(top1, "hundredth")
    return f"{counted(len(comparisons), 'network')}: top-1 within {within} of a per cent, top-5 within {top5}."
