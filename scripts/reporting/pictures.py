# SPDX-License-Identifier: Apache-2.0
"""The pictures of the report: what the network saw, and the activation map over it, as data: addresses."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from core.image_files import load_image
from core.pixels import Image
from imgproc import eval_transform
from reporting.activation_maps import Answer, Viewer
from reporting.measurements import Measurement
from reporting.predictions import Predictions

LARGEST_SIDE = 192  # pixels of a picture in the page
JPEG_QUALITY = 85
# How far a probability may be from that of predictions.csv: other layouts and libraries round otherwise, and the 16-bit
# and tf32 arithmetic of a GPU much more.
TOLERANCES = {"float32": 0.01}
LOOSE_TOLERANCE = 0.1


class Picture(NamedTuple):
    """The address of a picture, and of its activation map: "" where there is none."""

    shown: str = ""
    map: str = ""


@dataclass
class Album:
    """The pictures by the number of the image, and what was in the way."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)  # one line each
    differing: list[str] = field(default_factory=list)  # files that the network now answers otherwise
    map_side: int = 0  # places of an activation map along a side, 0 without any


def draw_pictures(
    predictions: Predictions, indices: Iterable[int], measured: Measurement, viewer: Viewer | None
) -> Album:
    """Open each of these images once, as test.py did."""
    album = Album()
    for index in dict.fromkeys(indices):
        path = predictions.files[index]
        try:
            image = eval_transform(load_image(path, measured.apply_orientation), measured.image_size)
        except (OSError, ValueError, MemoryError) as error:
            album.unreadable.append(describe(error, path))
            album.pictures[index] = Picture()
            continue
        answer = viewer.ask(image) if viewer else None
        if answer and not agrees(answer, predictions, index, TOLERANCES.get(measured.precision, LOOSE_TOLERANCE)):
            album.differing.append(path)
            answer = None
        if answer:
            album.map_side = max(answer.map.shape)
        has_places = answer is not None and answer.map.size > 1
        drawn = data_address(cover(image, answer.map)) if answer and has_places else ""
        album.pictures[index] = Picture(data_address(image), drawn)
    return album


def describe(error: Exception, path: str) -> str:
    """One line that begins with the path."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "too large for the memory"
    return reason if reason.startswith(path) else f"{path}: {reason}"


def agrees(answer: Answer, predictions: Predictions, index: int, tolerance: float) -> bool:
    """Whether the network says of an image what predictions.csv says."""
    if abs(answer.probability - predictions.probabilities[index, 0]) > tolerance:
        return False
    near = predictions.probabilities[index] >= predictions.probabilities[index, 0] - tolerance
    names = [predictions.classes[number] for number in predictions.predicted[index, near]]
    return answer.label is None or answer.label in names


def cover(image: Image, values: np.ndarray) -> Image:
    """The image in grey under the colours of a map, float32 [h, w]: dark blue is its least value, yellow its most."""
    span = float(np.ptp(values)) or 1.0
    shares = ((values - values.min()) / span).astype(np.float32)
    levels = cv2.resize(shares, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.cvtColor(cv2.applyColorMap((255 * levels).astype(np.uint8), cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(grey, 0.5, colours, 0.5, 0)


def data_address(image: Image) -> str:
    """RGB uint8 [S, S, 3] -> "data:image/jpeg;base64,...", made smaller where it is large."""
    if len(image) > LARGEST_SIDE:
        image = cv2.resize(image, (LARGEST_SIDE, LARGEST_SIDE), interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
