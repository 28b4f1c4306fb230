# SPDX-License-Identifier: Apache-2.0
"""Scenes to detect and to segment: several handwritten digits on a background, with their boxes and their mask."""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from core.pixels import Image

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 exclusive
Window = tuple[slice, slice]  # rows, columns

DIGITS = Path(__file__).resolve().parent.parent / "data/digits.csv.gz"
DIGITS_LINES, FULL_INK = 1797, 16
MAX_CSV_BYTES = 2**20  # the file unpacks to 264 KB; far more is made to take the memory
SPLITS = "train", "valid"
SCENE_CLASSES = list(map(str, range(10)))
# Of the scenes that are trained on and scored: whose digits, and the seed.
SCENE_SPLITS = {"train": ("train", 0), "valid": ("valid", 0), "test": ("valid", 1)}
MIN_SIDE = 64  # a digit of the least height has 32 rows then
NUM_DIGITS, MAX_IOU = (3, 4), 0.1  # so many are tried; one that finds no place is left out
PLACES, COLOURS = 40, 20  # tried for a digit
HEIGHTS = 0.5, 0.8  # of a digit, as shares of the side
HALF = 128
KNOTS = 2, 6  # of the background along a side: 2 make a gradient, 6 a texture
# Ink on paper: a digit is darker than what is behind it. Levels of 0..255. The weights of cubic interpolation sum up to
# 1.375 without their signs, along each axis, so the background reaches at most (1.375**2 - 1) / 2 times the range of
# its knots below these, 21 levels: black is 80 or more away from all of it.
DARKEST = 104
BACKGROUND_RANGE, MIN_CONTRAST, NOISE = 48, 80, 8


def read_digits_csv(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The digits of digits.csv.gz: uint8 [1797, 8, 8], levels 0 (paper) to 16 (ink), and int64 [1797], 0..9.

    Raises: ValueError if it is not the published file; FileNotFoundError.
    """
    try:
        with gzip.open(path) as file:
            lines = file.read(MAX_CSV_BYTES).splitlines()
        table = np.array([[int(value) for value in line.split(b",")] for line in lines], dtype=np.int64)
    except (ValueError, OverflowError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: damaged or not a digits.csv.gz ({error}); restore the file") from error
    if table.shape != (DIGITS_LINES, 65) or table.min() < 0 or table[:, :64].max() > FULL_INK or table[:, 64].max() > 9:
        raise ValueError(f"{path}: not {DIGITS_LINES} lines of 64 values 0..16 and a class 0..9; restore the file")
    return table[:, :64].astype(np.uint8).reshape(-1, 8, 8), table[:, 64]


def to_grey(levels: np.ndarray) -> np.ndarray:
    """Levels 0..16 as uint8 levels 0..255."""
    return np.rint(levels * (255 / FULL_INK)).astype(np.uint8)


def is_valid(labels: np.ndarray) -> np.ndarray:
    """Which digits of the file are the valid split, bool [N]; the others are train. No random numbers are used.

    The lines, sorted by class and inside a class as they stand in the file, go to valid if their place is 0, 5,
    10, ...: 360 of them, a fifth of every class to within one.
    """
    chosen = np.zeros(len(labels), bool)
    chosen[np.argsort(labels, kind="stable")[::5]] = True
    return chosen


class Scene(NamedTuple):
    """A picture and the N digits in it. No pixel has ink of two of them, so boxes and mask are exact."""

    image: Image  # uint8 [S, S, 3], RGB
    boxes: np.ndarray  # float32 [N, 4]: x0, y0, x1, y1 in pixels, x1 and y1 exclusive: around each digit's mask
    labels: np.ndarray  # int64 [N]: the digits, 0..9
    mask: np.ndarray  # uint8 [S, S]: 1 + digit where a digit has at least half of the full ink, 0 elsewhere


class DigitScenes:
    """scenes[index] -> Scene for an index of 0..num_scenes - 1: a function of (split, seed, index, side) alone.

    `path`: digits.csv.gz. `split`: "train" or "valid"; a scene has digits of the same split of the Digits dataset, so
    that no digit of a valid scene was trained on. `side`: S, in pixels.
    A scene has 1 to 4 digits, mostly 2, and any two boxes an IoU of at most 0.1. The luma (ITU-R BT.601, 0..255) of a
    digit's colour is 80 or more below that of each pixel behind it; noise of -8..7 on each channel is added to both
    afterwards.
    Raises: ValueError for another split, a side below 64, or as read_digits_csv(); FileNotFoundError.
    """

    def __init__(self, path: str | Path, split: str, *, seed: int, num_scenes: int, side: int) -> None:
        if split not in SPLITS:
            raise ValueError(f"split {split!r}; name one of {', '.join(SPLITS)}")
        if side < MIN_SIDE:
            raise ValueError(f"scenes with a side of {side} pixels; take {MIN_SIDE} or more")
        levels, labels = read_digits_csv(path)
        chosen = is_valid(labels) == (split == "valid")
        # With a rim of paper, so that strokes that end at the edge of the 8 x 8 pixels end softly.
        self.inks = np.pad(to_grey(levels[chosen]), ((0, 0), (1, 1), (1, 1)))
        self.labels = labels[chosen]
        self.split, self.seed, self.num_scenes, self.side = split, seed, num_scenes, side

    def __len__(self) -> int:
        return self.num_scenes

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.num_scenes:  # an IndexError ends a loop over the scenes
            raise IndexError(f"scene {index} of {self.num_scenes}")
        generator = default_rng(SeedSequence(self.seed, spawn_key=(SPLITS.index(self.split), index)))
        image = draw_background(self.side, generator)
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        taken = np.zeros(luma.shape, bool)  # by the ink of a digit, however thin
        mask = np.zeros_like(luma)
        boxes: list[Box] = []
        labels: list[int] = []
        num_digits = generator.integers(*NUM_DIGITS, endpoint=True)
        for number in generator.integers(len(self.labels), size=num_digits):
            alpha = draw_digit(self.inks[number], self.side, generator)
            window = find_window(alpha, taken, boxes, generator)
            if window is None:
                continue
            lay_over(image[window], choose_colour(luma[window], generator), alpha)
            taken[window] |= alpha > 0
            mask[window][alpha >= HALF] = 1 + self.labels[number]
            boxes.append(moved(box_of(alpha), window[1].start, window[0].start))
            labels.append(self.labels[number])
        noise = generator.integers(-NOISE, NOISE, image.shape, np.int8)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)  # over the digits, too, as a camera's would be
        return Scene(image, np.array(boxes, np.float32), np.array(labels, np.int64), mask)


def split_scenes(split: str, num_scenes: int, side: int) -> DigitScenes:
    """The scenes to train on ("train"), to validate on ("valid"), and to test on ("test"): others of the same digits.

    Raises: ValueError for a side below 64, or as read_digits_csv(); FileNotFoundError.
    """
    digits, seed = SCENE_SPLITS[split]
    return DigitScenes(DIGITS, digits, seed=seed, num_scenes=num_scenes, side=side)


def draw_background(side: int, generator: Generator) -> Image:
    """Random colours that are near each other, far apart on the canvas and interpolated between: uint8 [S, S, 3]."""
    knots = generator.integers(*KNOTS, endpoint=True)
    darkest = generator.integers(DARKEST, 255 - BACKGROUND_RANGE, 3, endpoint=True)
    levels = darkest + generator.integers(0, BACKGROUND_RANGE, (knots, knots, 3), endpoint=True)
    return cv2.resize(levels.astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)


def draw_digit(ink: np.ndarray, side: int, generator: Generator) -> np.ndarray:
    """The opacity of an upscaled digit, uint8 [height, width], cut to what is not transparent.

    It is HALF or more where the digit has half of the full ink, and three times as steep as the ink there: the strokes
    of so few pixels would look out of focus.
    """
    length = round(side * generator.uniform(*HEIGHTS) * len(ink) / 8)  # the digit is 8 rows, the others are its rim
    ink = cv2.resize(ink, (length, length), interpolation=cv2.INTER_CUBIC)
    alpha = np.clip(3 * ink.astype(np.int16) - 255, 0, 255).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(alpha)
    return alpha[y : y + height, x : x + width]


def find_window(alpha: np.ndarray, taken: np.ndarray, boxes: list[Box], generator: Generator) -> Window | None:
    """A place on the canvas where a digit meets no ink of another, and its box hardly a box; None if none is found."""
    (height, width), ink, box = alpha.shape, alpha > 0, box_of(alpha)
    for _ in range(PLACES):
        x = int(generator.integers(len(taken) - width, endpoint=True))
        y = int(generator.integers(len(taken) - height, endpoint=True))
        window = slice(y, y + height), slice(x, x + width)
        placed = moved(box, x, y)
        if all(iou(placed, other) <= MAX_IOU for other in boxes) and not (taken[window] & ink).any():
            return window
    return None


def box_of(alpha: np.ndarray) -> Box:
    """The box around a digit's mask, of which each side has a pixel."""
    x, y, width, height = cv2.boundingRect((alpha >= HALF).astype(np.uint8))
    return x, y, x + width, y + height


def moved(box: Box, x: int, y: int) -> Box:
    left, top, right, bottom = box
    return left + x, top + y, right + x, bottom + y


def iou(box: Box, other: Box) -> float:
    """The area that two boxes share over the area that they cover, 0..1."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (area(box) + area(other) - shared)


def area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def choose_colour(luma: np.ndarray, generator: Generator) -> np.ndarray:
    """A random RGB colour, uint8 [3], at least MIN_CONTRAST darker than every luma behind; black if none is found."""
    colours = generator.integers(0, 256, (1, COLOURS + 1, 3), np.uint8)
    colours[0, COLOURS:] = 0
    lumas = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)[0].astype(int)
    chosen: np.ndarray = colours[0, np.argmax(int(luma.min()) - lumas >= MIN_CONTRAST)]  # the first that is far enough
    return chosen


def lay_over(image: Image, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Draw a colour of opacity `alpha`, uint8 [H, W], on an image [H, W, 3], rounded to the nearest level."""
    opacity = alpha[..., None].astype(np.uint16)  # 255 * 255 + 127 is within 16 bits
    image[:] = (opacity * colour + (255 - opacity) * image + 127) // 255
