# SPDX-License-Identifier: Apache-2.0
"""The shapes of objects in files of COCO: checked, then drawn.

Of pycocotools there is the drawing of polygons alone: it trusts what it is given, and its decoding of run lengths warns
of a deprecation with numpy 2.
"""

import math
from typing import Any

import numpy as np

SCALE = 5  # pycocotools draws the edge of a polygon so many times finer
MAX_STEPS = 2**22  # on that edge; a photo of 12 million pixels is 280,000 around
MAX_POLYGONS = 10_000
NO_SHAPE = "no polygons and no run lengths"


def check_shape(shape: Any, size: tuple[int, int]) -> str:
    """Why a shape cannot be drawn in an image of `size` (height, width), or ""; after it draw_shape() is safe."""
    if isinstance(shape, dict):
        return check_runs(shape, size)
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_POLYGONS:
        return NO_SHAPE
    steps = 0
    for polygon in shape:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return "a polygon of fewer than three points, or half a point"
        if not all(type(value) in (int, float) and abs(value) < math.inf for value in polygon):
            return "a polygon whose coordinates are not all numbers"
        xs, ys = polygon[::2], polygon[1::2]
        for values, side in ((xs, size[1]), (ys, size[0])):
            if min(values) < -side or max(values) > 2 * side:
                return "a polygon that reaches far out of its image"
        edge = (max(abs(xs[n] - xs[n - 1]), abs(ys[n] - ys[n - 1])) for n in range(len(xs)))
        steps += SCALE * int(sum(edge)) + 2 * len(xs)
    return "polygons with far too long an edge" if steps > MAX_STEPS else ""


def check_runs(shape: dict[str, Any], size: tuple[int, int]) -> str:
    """Why run lengths cannot be of an image of `size`, or ""."""
    if shape.get("size") != list(size):
        return f"run lengths of another size, {str(shape.get('size'))[:40]}"
    counts = shape.get("counts")
    if isinstance(counts, str):
        counts = decode_counts(counts)
    elif not isinstance(counts, list) or not all(type(count) is int for count in counts):
        return "run lengths that are no whole numbers"
    if counts is None:
        return "damaged run lengths"
    pixels = size[0] * size[1]
    if not all(0 <= count <= pixels for count in counts) or sum(counts) != pixels:
        return "run lengths that do not cover their image"
    return ""


def decode_counts(text: str) -> list[int] | None:
    """The run lengths in COCO's own text; None if it is damaged.

    Six bits a character from "0" on, the lowest first: five of a number, and whether it goes on; the last bit but that
    is the sign. From the fourth number on, each is the difference to the one before the last.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return None if shift else counts


def draw_shape(shape: Any, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a shape that check_shape() found sound: bool [H, W]."""
    height, width = size
    if isinstance(shape, list):
        from pycocotools import mask  # where polygons are drawn

        polygons = [[float(value) for value in polygon] for polygon in shape]
        counts = mask.merge(mask.frPyObjects(polygons, height, width))["counts"].decode("ascii")
    else:
        counts = shape["counts"]
    runs = decode_counts(counts) if isinstance(counts, str) else counts
    values = np.arange(len(runs or ())) % 2 == 1  # zeros first, then ones, down the columns
    return np.repeat(values, runs or ()).reshape(width, height).T
