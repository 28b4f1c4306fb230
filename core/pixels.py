# SPDX-License-Identifier: Apache-2.0
"""What the decoders of all image formats share."""

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:  # loaded when the first file needs it
    import PIL.Image

Image = np.ndarray
Size = tuple[int, int]  # width, height
MAX_PIXELS = 178_956_970  # where Pillow raises DecompressionBombError: 0.5 GB as RGB, up to 3.5 GB while decoding


class KindError(ValueError):
    """The file may be sound, but is of a kind that is not read; the message names the kind."""


def turn_upright(image: Image, orientation: int) -> Image:
    """Flip and turn what is stored in one of the eight orientations, exactly as Pillow's ImageOps.exif_transpose."""
    if orientation in (5, 6, 7, 8):
        image = cv2.transpose(image)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else cv2.flip(image, flip)


ORIENTATION_TAG = 274


def opencv_pixels(data: np.ndarray, flags: int = cv2.IMREAD_COLOR_RGB) -> Image | None:
    # imdecode gives None for a truncated file, where imread would fill the rest of a JPEG with grey
    return cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)


def pillow_pixels(picture: "PIL.Image.Image") -> Image:
    """Decode a picture that Pillow has opened: its convert("RGB"), but of 16-bit grey the high byte of each level."""
    if picture.mode.startswith("I;16"):
        return cv2.cvtColor((np.asarray(picture) >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    if picture.mode == "La":  # grey with premultiplied alpha, from which Pillow has no way to RGB
        picture = picture.convert("LA")
    if picture.mode != "RGB":  # convert() would copy
        picture = picture.convert("RGB")
    return np.array(picture)
