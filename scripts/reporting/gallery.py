# SPDX-License-Identifier: Apache-2.0
"""The sections of the report that are pictures: sure mistakes, unsure hits, labels that look wrong."""

from collections.abc import Sequence
from typing import NamedTuple

from core.plurals import counted
from reporting.figures import confident_mistakes, doubtful_labels, unsure_hits
from reporting.markup import Markup, element, paragraph, percent, section
from reporting.pictures import Album
from reporting.predictions import Predictions

SHOWN_MISTAKES, SHOWN_HITS, SHOWN_LABELS = 24, 12, 24
SMALL_SIDE = 96  # pixels, below which a picture is shown pixel by pixel


class Choice(NamedTuple):
    """Which images are shown, and how many there are of each kind."""

    mistakes: list[int]
    hits: list[int]
    labels: list[int]
    num_mistakes: int
    num_labels: int

    def all(self) -> list[int]:
        return [*self.mistakes, *self.hits, *self.labels]


def choose(predictions: Predictions) -> Choice:
    mistakes, hits, labels = (find(predictions) for find in (confident_mistakes, unsure_hits, doubtful_labels))
    return Choice(
        mistakes[:SHOWN_MISTAKES].tolist(),
        hits[:SHOWN_HITS].tolist(),
        labels[:SHOWN_LABELS].tolist(),
        len(mistakes),
        len(labels),
    )


class Gallery:
    """Draws cards of images."""

    def __init__(self, predictions: Predictions, album: Album, image_size: int) -> None:
        self.predictions, self.album = predictions, album
        self.kind = "small" if image_size < SMALL_SIDE else "large"
        self.true_probabilities = predictions.true_probabilities()

    def cards(self, indices: Sequence[int], with_label: bool = False) -> Markup:
        """`with_label`: say what the true class got, too."""
        return element("div", *(self.card(index, with_label) for index in indices), class_="album")

    def card(self, index: int, with_label: bool) -> Markup:
        names, file = self.predictions.classes, self.predictions.files[index]
        true, predicted = names[self.predictions.true[index]], names[self.predictions.predicted[index, 0]]
        share = self.predictions.probabilities[index, 0]
        lines = [element("span", "true: ", element("b", true), self.given_to_true(index) if with_label else "")]
        lines.append(element("span", "predicted: ", element("b", predicted), f" {percent(share)}"))
        lines.append(element("span", file, class_="file"))
        pictures = self.pictures(index, f"{file}: true class {true}, predicted {predicted}")
        return element("figure", pictures, element("figcaption", *lines), class_="card")

    def given_to_true(self, index: int) -> str:
        share = self.true_probabilities[index]
        count = self.predictions.predicted.shape[1]
        return f" {percent(share)}" if share else f" not among the best {count}"

    def pictures(self, index: int, description: str) -> Markup:
        picture = self.album.pictures[index]
        if not picture.shown:
            return element("div", element("div", "cannot be read", class_="gone"), class_="alone")
        drawn = [element("img", src=picture.shown, alt=description, title=description, class_=self.kind)]
        if picture.map:
            said = f"Activation map of {description}"
            drawn.append(element("img", src=picture.map, alt=said, title=said, class_=self.kind))
        return element("div", *drawn, **({} if picture.map else {"class_": "alone"}))


def mistakes_and_hits(gallery: Gallery, choice: Choice, about_maps: str) -> Markup:
    """The surest mistakes and the least sure right answers."""
    said = f"The {counted(len(choice.mistakes), 'mistake')} with the highest probability, of {choice.num_mistakes:,}."
    mistakes = [paragraph(said), gallery.cards(choice.mistakes)] if choice.mistakes else [paragraph("There are none.")]
    said = f"The {counted(len(choice.hits), 'right answer')} with the lowest probability."
    hits = [paragraph(said), gallery.cards(choice.hits)] if choice.hits else [paragraph("There are none.")]
    return section(
        "What the network looked at",
        paragraph(f"Each picture is cut and scaled as the network sees it. {about_maps}"),
        element("h3", "Sure, and wrong"),
        *mistakes,
        element("h3", "Right, and unsure"),
        *hits,
    )


def labels_that_look_wrong(gallery: Gallery, choice: Choice) -> Markup:
    """The images that may be in the wrong folder."""
    how = (
        "An image is listed if the network is wrong, gives its answer at least the probability that images of that "
        "class get for it on average, and gives the true class at most what images of that one get on average (the "
        "thresholds of confident learning). Those with the largest distance of the two probabilities come first. Only "
        "the best classes of each image are known; others count as 0. Look at them: many are hard, not mislabelled."
    )
    if not choice.labels:
        return section("Labels that look wrong", paragraph("There are none."), paragraph(how, class_="quiet"))
    shown = "" if choice.num_labels == len(choice.labels) else f" These are the first {len(choice.labels)}."
    count = counted(choice.num_labels, "image", form=",")
    return section(
        "Labels that look wrong",
        paragraph(f"{count} may be in the wrong folder.{shown}"),
        paragraph(how, class_="quiet"),
        gallery.cards(choice.labels, with_label=True),
    )
