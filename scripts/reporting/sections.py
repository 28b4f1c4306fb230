# SPDX-License-Identifier: Apache-2.0
"""The sections of the report that are figures: heading, classes, confusions, calibration, training."""

import numpy as np

from core.plurals import counted
from reporting.charts import interval_bar, line_chart, reliability_diagram
from reporting.curves import Curves
from reporting.figures import (
    NUM_BINS,
    calibrate,
    confused_pairs,
    confusion_matrix,
    count_classes,
    top_hits,
    wilson_interval,
)
from reporting.markup import NEWLINE, Markup, element, join, paragraph, percent, section, table
from reporting.measurements import Measurement
from reporting.predictions import Predictions

MOST_IN_MATRIX = 30  # classes
MOST_BARS = 100  # classes; more of them are searched for by name, not compared by eye
MOST_PAIRS = 100
FEW_IMAGES = 30  # of a class, below which its interval is wider than most differences


def heading(title: str, predictions: Predictions, measured: Measurement) -> Markup:
    """What was measured, and the figures of all images together."""
    num_images, hits = len(predictions.files), int(predictions.hits().sum())
    low, high = wilson_interval(hits, num_images)
    classes = count_classes(predictions)
    error = calibrate(predictions).expected_error()
    tiles = [
        (
            "top-1 accuracy",
            percent(hits / num_images, 2),
            f"95 % interval {percent(float(low))} to {percent(float(high))}",
        )
    ]
    if len(predictions.classes) > predictions.predicted.shape[1]:
        tiles.append(
            ("top-5 accuracy", percent(top_hits(predictions) / num_images, 2), "true class among the best five")
        )
    tiles.append(("macro accuracy", percent(classes.macro(), 2), "mean over the classes, each counts the same"))
    tiles.append(("calibration error", percent(error, 2), "mean distance of probability and accuracy"))
    present = int(np.count_nonzero(classes.counts))
    facts = {
        "Images": f"{num_images:,} of {counted(present, 'class', 'classes', form=',')}",
        "Data": measured.data,
        "Weights": measured.weights,
        "SHA-256": measured.weights_sha256,
        "Image size": f"{measured.image_size} pixels",
        "Arithmetic": f"{measured.precision}, {measured.runtime}",
    }
    boxes = [
        element("div", element("span", a), element("b", b), element("span", c), class_="tile") for a, b, c in tiles
    ]
    pairs = [join(element("dt", name), element("dd", value)) for name, value in facts.items()]
    return element("header", element("h1", title), element("div", *boxes, class_="tiles"), element("dl", *pairs))


def accuracy_per_class(predictions: Predictions) -> Markup:
    """Every class with its interval, the worst first."""
    figures = count_classes(predictions)
    order = figures.worst_first()
    counts, right = figures.counts[order], figures.right[order]
    lows, highs = wilson_interval(right, counts)
    has_bars = len(order) <= MOST_BARS
    rows = []
    for number, count, hits, low, high in zip(order, counts, right, lows, highs, strict=True):
        interval = f"{100 * low:.1f} to {percent(high)}"
        row = [predictions.classes[number], f"{count:,}", f"{hits:,}", percent(hits / count), interval]
        rows.append([*row, interval_bar(hits / count, low, high)] if has_bars else row)
    heads = ["class", "images", "right", "accuracy", "95 % interval", *([""] if has_bars else [])]
    said = "The worst classes come first. The interval is where the accuracy on many more such images probably lies."
    few = f" Classes with fewer than {FEW_IMAGES} images have wide ones, so their order is mostly chance."
    return section(
        "Accuracy of each class",
        paragraph(said + (few if np.median(counts) < FEW_IMAGES else "")),
        table(heads, rows, "Accuracy of each class", numeric_from=1),
    )


def confusions(predictions: Predictions) -> Markup:
    """A matrix for few classes, the most frequent pairs for many."""
    few = len(predictions.classes) <= MOST_IN_MATRIX
    content = matrix(predictions) if few else pairs(predictions)
    return section("Which classes are taken for which", content)


def matrix(predictions: Predictions) -> Markup:
    """Counts, coloured by the share of the true class."""
    counts = confusion_matrix(predictions)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / totals
    most = max(float((shares * (1 - np.eye(len(shares)))).max()), 1e-9)
    is_long = any(len(name) > 3 for name in predictions.classes)
    kind = {"class_": "long"} if is_long else {}
    heads = [element("th", element("span", name), scope="col", title=name, **kind) for name in predictions.classes]
    rows = []
    for true, name in enumerate(predictions.classes):
        cells = [
            cell(f"{name} taken for {other}", int(counts[true, k]), float(shares[true, k]), true == k, most)
            for k, other in enumerate(predictions.classes)
        ]
        rows.append(join(element("tr", element("th", name, scope="row", title=name), *cells), NEWLINE))
    corner = element("th", "true ↓  predicted →")
    whole = element("table", element("thead", element("tr", corner, *heads)), element("tbody", *rows), class_="matrix")
    said = (
        "Each row is a true class, each column a predicted one, each number a count of images. Blue are right answers, "
        "the stronger the larger their share of the row. Orange are mistakes, the strongest being "
        f"{percent(most) if most > 1e-9 else 'none'} of their row."
    )
    return join(
        paragraph(said),
        element("div", whole, class_="scroll", tabindex=0, role="region", aria_label="Confusion matrix"),
    )


def cell(name: str, count: int, share: float, is_right: bool, most: float) -> Markup:
    """One count; the deepest colour still lets its number be read."""
    if count == 0:
        return element("td", "·", class_="none", title=f"{name}: 0")
    depth = 0.1 + 0.5 * (share if is_right else share / most)
    kind = "right" if is_right else "wrong"
    return element(
        "td", f"{count}", class_=kind, style=f"--share:{depth:.2f}", title=f"{name}: {count} ({percent(share)})"
    )


def pairs(predictions: Predictions) -> Markup:
    found = confused_pairs(predictions)
    names = predictions.classes
    rows = [
        [names[pair.true], names[pair.predicted], f"{pair.images:,}", percent(pair.share)]
        for pair in found[:MOST_PAIRS]
    ]
    shown = "" if len(found) <= MOST_PAIRS else f"; these are the {MOST_PAIRS} most frequent of them"
    kinds = ("pair of a true and a predicted class was", "pairs of a true and a predicted class were")
    said = f"{counted(len(found), *kinds, form=',')} confused{shown}."
    heads = ["true class", "predicted class", "images", "share of the true class"]
    return join(paragraph(said), table(heads, rows, "Confused pairs", numeric_from=2) if rows else "")


def calibration(predictions: Predictions) -> Markup:
    """Whether the probabilities mean what they say."""
    figures = calibrate(predictions)
    sure, right = predictions.probabilities[:, 0].mean(), predictions.hits().mean()
    width = 100 / NUM_BINS
    rows = [
        [f"{k * width:.1f} to {(k + 1) * width:.1f} %", f"{count:,}", percent(mean), percent(share)]
        for k, (count, mean, share) in enumerate(zip(*figures, strict=True))
        if count
    ]
    numbers = table(["bin", "images", "mean probability", "right"], rows, "Bins of the reliability diagram", 1)
    too = "surer than it should be" if sure > right else "less sure than it could be"
    said = (
        f"The network gives its answer {percent(sure)} on average, and {percent(right)} of the answers are right: it "
        f"is {too}. The expected calibration error is {percent(figures.expected_error(), 2)}: the mean distance of "
        f"probability and accuracy over {NUM_BINS} bins of equal width."
    )
    how = (
        "Bars are the share that is right, and dots show it over the mean probability of the bin. Dots on the dashed "
        "line mean that the probabilities can be taken at their word; below it the network is too sure."
    )
    return section(
        "How far the probabilities can be trusted",
        paragraph(said),
        paragraph(how),
        reliability_diagram(figures),
        element("details", element("summary", "The numbers of the bins"), numbers),
    )


def training(curves: Curves, folder: str) -> Markup:
    """The curves of the training run, where there is a log of it."""
    notes = [paragraph(trouble, class_="note") for trouble in curves.troubles]
    if not curves.charts:
        return section("Training", paragraph(f"{folder} has no curves of a training run."), *notes)
    keys = [join(key(split), text) for split, text in (("train", "training"), ("valid", "validation"))]
    charts = [line_chart(title, unit, found) for (title, unit), found in curves.charts.items()]
    said = paragraph(f"From the event files of {folder}.", *keys)
    return section("Training", said, *notes, element("div", *charts, class_="charts"))


def key(split: str) -> Markup:
    """A piece of a curve, for the text."""
    line = element("line", x1=0, x2=36, y1=6, y2=6, class_=f"curve {split}")
    return element("svg", line, class_="key", role="img", aria_label=f"the line of {split}")
