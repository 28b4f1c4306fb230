# SPDX-License-Identifier: Apache-2.0
"""What is computed from the answers: shares with their intervals, confusions, calibration, doubtful labels."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from reporting.predictions import Predictions

Z = NormalDist().inv_cdf(0.975)  # of 95 %
NUM_BINS = 15  # as Guo et al. have them


def wilson_interval(right: np.ndarray | int, count: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share, lowest and highest, for counts >= 1 of any shape (E. B. Wilson, 1927)."""
    share, scale = np.divide(right, count), 1 + Z**2 / np.asarray(count)
    centre = (share + Z**2 / (2 * np.asarray(count))) / scale
    half = Z / scale * np.sqrt(share * (1 - share) / count + Z**2 / (4 * np.square(count, dtype=float)))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


class ClassFigures(NamedTuple):
    """The images and the right answers of each class, int64 [C]; a class that was only predicted has no images."""

    counts: np.ndarray
    right: np.ndarray

    def macro(self) -> float:
        """The mean share of right answers over the classes that have images."""
        has_images = self.counts > 0
        return float((self.right[has_images] / self.counts[has_images]).mean())

    def worst_first(self) -> np.ndarray:
        """The classes that have images: by their share, then those with more images."""
        classes = np.flatnonzero(self.counts)
        shares = self.right[classes] / self.counts[classes]
        return classes[np.lexsort((classes, -self.counts[classes], shares))]


def count_classes(predictions: Predictions) -> ClassFigures:
    num_classes = len(predictions.classes)
    counts = np.bincount(predictions.true, minlength=num_classes)
    right = np.bincount(predictions.true[predictions.hits()], minlength=num_classes)
    return ClassFigures(counts, right)


def top_hits(predictions: Predictions) -> int:
    """How many images have their true class among the classes that are named."""
    return int((predictions.predicted == predictions.true[:, None]).any(axis=1).sum())


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """The images of each true class (rows) by their predicted class (columns), int64 [C, C]."""
    num_classes = len(predictions.classes)
    places = predictions.true * num_classes + predictions.predicted[:, 0]
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


class Pair(NamedTuple):
    """A class, what it was taken for, how often, and which share of its images that is."""

    true: int
    predicted: int
    images: int
    share: float


def confused_pairs(predictions: Predictions) -> list[Pair]:
    """Every pair of classes that was confused, the most frequent first, then by their share."""
    wrong = ~predictions.hits()
    places = predictions.true[wrong] * len(predictions.classes) + predictions.predicted[wrong, 0]
    found, counts = np.unique(places, return_counts=True)
    true, predicted = np.divmod(found, len(predictions.classes))
    shares = counts / np.bincount(predictions.true, minlength=len(predictions.classes))[true]
    order = np.lexsort((predicted, true, -shares, -counts))
    return [Pair(int(true[k]), int(predicted[k]), int(counts[k]), float(shares[k])) for k in order]


class Calibration(NamedTuple):
    """The images by the probability of their answer, in NUM_BINS equal bins: each [NUM_BINS], 0 in empty bins."""

    counts: np.ndarray
    confidence: np.ndarray  # mean probability
    accuracy: np.ndarray  # share that is right

    def expected_error(self) -> float:
        """The expected calibration error: the mean distance of the two over all images (arXiv:1706.04599)."""
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / self.counts.sum())


def calibrate(predictions: Predictions) -> Calibration:
    """Bin k has the probabilities above k / NUM_BINS up to (k + 1) / NUM_BINS, the first also 0."""
    confidence = predictions.probabilities[:, 0]
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    sums = [np.bincount(bins, weights, NUM_BINS) for weights in (confidence, predictions.hits().astype(float))]
    means = [total / np.maximum(counts, 1) for total in sums]
    return Calibration(counts, means[0], means[1])


def confident_mistakes(predictions: Predictions) -> np.ndarray:
    """The images with a wrong answer, the surest first: int64."""
    wrong = np.flatnonzero(~predictions.hits())
    return wrong[np.argsort(-predictions.probabilities[wrong, 0], kind="stable")]


def unsure_hits(predictions: Predictions) -> np.ndarray:
    """The images with a right answer, the least sure first: int64."""
    right = np.flatnonzero(predictions.hits())
    return right[np.argsort(predictions.probabilities[right, 0], kind="stable")]


def doubtful_labels(predictions: Predictions) -> np.ndarray:
    """The images whose label looks wrong, as in confident learning (arXiv:1911.00068), the clearest first: int64.

    The network is at least as sure of another class as it is on average for the images that have that label, and at
    most as sure of the label as it is on average for the images that have it. In the order of the distance of the two
    probabilities.
    """
    own = predictions.true_probabilities()
    num_classes = len(predictions.classes)
    counts = np.bincount(predictions.true, minlength=num_classes)
    usual = np.bincount(predictions.true, own, num_classes) / np.maximum(counts, 1)
    usual[counts == 0] = np.inf  # of a class without images nobody knows how sure is usual
    answer, sure = predictions.predicted[:, 0], predictions.probabilities[:, 0]
    is_doubtful = ~predictions.hits() & (sure >= usual[answer]) & (own <= usual[predictions.true])
    doubtful = np.flatnonzero(is_doubtful)
    return doubtful[np.argsort(own[doubtful] - sure[doubtful], kind="stable")]
