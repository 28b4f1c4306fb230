# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG inside the page; colours and dashes are those of style.css."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.plurals import counted
from reporting.curves import Points
from reporting.figures import Calibration
from reporting.markup import Markup, element, join, percent

WIDTH = 400  # of the coordinates: shown at this width or less, so that text stays legible on a phone
MOST_DOTS = 30  # points of a curve that get a dot each


class Frame(NamedTuple):
    """The part of a chart that holds the data: places in the picture, and the values at its edges."""

    left: float
    right: float
    top: float
    bottom: float
    first: float
    last: float
    lowest: float
    highest: float

    def x(self, value: float) -> float:
        return round(self.left + (self.right - self.left) * (value - self.first) / (self.last - self.first), 1)

    def y(self, value: float) -> float:
        share = (value - self.lowest) / (self.highest - self.lowest)
        return round(self.bottom + (self.top - self.bottom) * share, 1)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most so many round numbers that cover low..high, in steps of 1, 2 or 5 times a power of 10."""
    if high <= low:
        low, high = low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1)
    rough = (high - low) / (most - 2)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12 - math.floor(math.log10(power))) for number in range(first, last + 1)]


def show_number(value: float) -> str:
    return f"{value:,.6g}"


def axes(frame: Frame, x_ticks: Sequence[float], y_ticks: Sequence[float], x_title: str, y_title: str) -> Markup:
    """Grid lines with their numbers, and the titles of the two axes."""
    parts = []
    for value in y_ticks:
        y = frame.y(value)
        parts.append(element("line", class_="grid", x1=frame.left, x2=frame.right, y1=y, y2=y))
        parts.append(element("text", show_number(value), x=frame.left - 6, y=y + 4, text_anchor="end"))
    for value in x_ticks:
        x = frame.x(value)
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=frame.bottom, y2=frame.bottom + 4))
        parts.append(element("text", show_number(value), x=x, y=frame.bottom + 17, text_anchor="middle"))
    middle = (frame.left + frame.right) / 2
    parts.append(element("text", x_title, x=middle, y=frame.bottom + 34, text_anchor="middle"))
    parts.append(element("text", y_title, x=4, y=frame.top - 12))
    return join(*parts)


def drawing(height: float, label: str, *content: str) -> Markup:
    return element("svg", *content, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label, class_="chart")


def line_chart(title: str, unit: str, curves: Mapping[str, Points]) -> Markup:
    """Curves over the steps of a run; the key says which is which."""
    steps = [step for points in curves.values() for step, _ in points]
    values = [value for points in curves.values() for _, value in points]
    y_ticks = ticks(min(values), max(values))
    last = max(1, *steps)
    x_ticks = [tick for tick in ticks(0, last, 6) if tick <= last]
    frame = Frame(56, WIDTH - 18, 28, 210, 0, last, y_ticks[0], y_ticks[-1])
    titled = f"{title} ({unit})" if unit else title
    parts = [axes(frame, x_ticks, y_ticks, "step (batches)", titled)]
    for split, points in curves.items():
        places = [(frame.x(step), frame.y(value)) for step, value in points]
        line = " ".join(f"{x},{y}" for x, y in places)
        parts.append(element("polyline", points=line, class_=f"curve {split.lower()}"))
        if len(points) <= MOST_DOTS:
            parts += [element("circle", cx=x, cy=y, r=3, class_=f"dot {split.lower()}") for x, y in places]
    last_values = ", ".join(f"{split}: {show_number(points[-1][1])} at the end" for split, points in curves.items())
    return element("figure", drawing(250, f"{titled} over the steps. {last_values}", *parts), class_="wide")


def reliability_diagram(calibration: Calibration) -> Markup:
    """The share that is right beside the probability, bin by bin, over the number of images in each bin."""
    upper = Frame(56, WIDTH - 18, 28, 260, 0, 100, 0, 100)
    parts = [axes(upper, [], [0, 25, 50, 75, 100], "", "share that is right (%)")]
    highest = int(calibration.counts.max())
    y_ticks = ticks(0, highest, 4)
    lower = Frame(56, WIDTH - 18, 308, 370, 0, 100, 0, y_ticks[-1])
    parts.append(axes(lower, [0, 20, 40, 60, 80, 100], y_ticks, "probability of the answer (%)", "images"))
    width = 100 / len(calibration.counts)
    for number, count in enumerate(calibration.counts.tolist()):
        if count:
            share, mean = float(calibration.accuracy[number]), float(calibration.confidence[number])
            said = element(
                "title", f"{counted(count, 'image')} at {percent(mean)} on average, of which {percent(share)} are right"
            )
            parts += [
                bar(frame, number * width, width, height, said)
                for frame, height in ((upper, 100 * share), (lower, count))
            ]
            x, y = upper.x(100 * mean), upper.y(100 * share)
            parts.append(element("circle", said, cx=x, cy=y, r=3, class_="dot valid"))
    diagonal = {"x1": upper.x(0), "y1": upper.y(0), "x2": upper.x(100), "y2": upper.y(100)}
    parts.append(element("line", class_="diagonal", **diagonal))
    label = (
        "Reliability diagram: the share of right answers for each bin of probability; the table below has its numbers"
    )
    return element("figure", drawing(410, label, *parts), class_="wide")


def bar(frame: Frame, start: float, width: float, height: float, said: Markup) -> Markup:
    x, y = frame.x(start) + 1, frame.y(height)
    return element(
        "rect",
        said,
        x=x,
        y=y,
        width=round(frame.x(start + width) - x - 1, 1),
        height=round(frame.bottom - y, 1),
        class_="bar",
    )


def interval_bar(share: float, low: float, high: float) -> Markup:
    """A share as a bar, with its interval as whiskers; it takes the width it gets."""
    ends = [
        element(
            "line",
            x1=percent(end, 2).replace(" ", ""),
            x2=percent(end, 2).replace(" ", ""),
            y1=3,
            y2=13,
            class_="whisker",
        )
        for end in (low, high)
    ]
    low_end, high_end, end = (f"{100 * value:.2f}%" for value in (low, high, share))
    label = f"{percent(share)}, 95 % interval {percent(low)} to {percent(high)}"
    return element(
        "svg",
        element("rect", x=0, y=2, width="100%", height=12, class_="track"),
        element("rect", x=0, y=2, width=end, height=12, class_="bar"),
        element("line", x1=low_end, x2=high_end, y1=8, y2=8, class_="whisker"),
        *ends,
        role="img",
        aria_label=label,
        class_="interval",
    )
