# SPDX-License-Identifier: Apache-2.0
"""Making the bytes of an image that is to be stored smaller, or upright."""

from typing import NamedTuple

import cv2
import numpy as np

from preparing.sources import encode_png

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif")
JPEG_QUALITY = 95


class Conversion(NamedTuple):
    """What becomes of images that are not to be stored as they are."""

    short_side: int | None = None  # in pixels, of those whose short side is longer
    is_upright: bool = False  # those that the camera noted as turned are turned


def is_turned(data: bytes) -> bool:
    """Tell whether a camera noted that a picture is not upright as it is stored."""
    from core.image_files import read_orientation

    return read_orientation(np.frombuffer(data, np.uint8)) != 1


def convert(data: bytes, name: str, short_side: int | None, is_turned: bool) -> bytes | None:
    """The image upright if it is turned, and with this short side, antialiased, if its own is longer.

    JPEG, but PNG of a PNG that was only turned; None of an image that stays as it is, as does an unreadable one that
    would only be turned. Raises: ValueError for an unreadable one that is to be made smaller.
    """
    from core.image_files import decode_image, image_kind
    from imgproc import resize

    array = np.frombuffer(data, np.uint8)
    if not (short_side or is_turned):
        return None
    try:
        image = decode_image(array, name, apply_orientation=is_turned)
    except ValueError:
        if short_side:
            raise
        return None
    height, width = image.shape[:2]
    short = min(height, width)
    if short_side and short > short_side:
        image = resize(image, short_side * height // short, short_side * width // short)
        return encode_jpeg(image, name)
    if not is_turned:
        return None
    # a camera's colours are half as fine as its brightness: stored so again, they would lose twice
    return (
        encode_png(image)
        if image_kind(array) == "PNG"
        else encode_jpeg(image, name, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    )


def encode_jpeg(image: np.ndarray, name: str, sampling: int = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420) -> bytes:
    """JPEG of RGB pixels. Raises: ValueError if they are too many for one."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    try:
        return cv2.imencode(".jpg", bgr, options)[1].tobytes()
    except cv2.error as error:
        raise ValueError(f"{name}: {image.shape[1]} x {image.shape[0]} pixels are too many for a JPEG") from error
