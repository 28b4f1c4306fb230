# SPDX-License-Identifier: Apache-2.0
"""The pictures that a task takes apart, and where what it found in them is drawn."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from core.atomic_files import write_atomically
from core.digit_scenes import split_scenes
from core.named_pictures import Describe, find_images, load_picture, read_each
from core.pixels import Image
from core.settings import config_lines

SHOWN_SCENES = 4
Load = Callable[[Path], Image]


def load_stored(path: Path) -> Image:
    """Decode a picture as it is stored, as those with boxes and masks are; a line on stderr if that is not upright."""
    return load_picture(path, "taken as stored; save it upright")


def read_pictures(
    arguments: list[str], config: ModuleType, ending: str, describe: Describe, load: Load = load_stored
) -> Iterator[tuple[str, Image, Path]]:
    """Each picture's name, its pixels and the PNG file to draw it in, whose name has the ending.

    Of files and folders; without arguments those of inference_image_path; without this, scenes that nothing was trained
    on. Raises: ValueError for no picture where the weights are of photos, or for two to be drawn in one file, before
    the first; as find_images() and read_each().
    """
    paths = arguments or [config.inference_image_path]
    if paths == [""]:
        refuse_scenes_of_photos(config)
        scenes = split_scenes("test", SHOWN_SCENES, config.image_size)
        for number in range(SHOWN_SCENES):
            target = Path("results", config.exp_name, f"scene_{number}_{ending}.png")
            yield f"scene {number} of the test scenes", scenes[number].image, target
        return
    targets = choose_targets(find_images(paths), config.exp_name, ending)
    for path, image in read_each(list(targets), load, describe):
        yield str(path), image, targets[path]


def refuse_scenes_of_photos(config: ModuleType) -> None:
    """Raise ValueError if data_dir names a folder of photos: weights of these know nothing of digits."""
    if config.data_dir:
        lines = config_lines(config)
        raise ValueError(
            "no picture named: give one after inference.py, or as inference_image_path (config.py line "
            f"{lines.get('inference_image_path', '?')}); scenes of digits take its place only where data_dir (line "
            f'{lines.get("data_dir", "?")}) is ""'
        )


def choose_targets(paths: list[Path], exp_name: str, ending: str) -> dict[Path, Path]:
    """Where each picture is drawn, or would be if it were there. Raises: ValueError for two in one place."""
    targets = {path: Path("results", exp_name, f"{path.stem}_{ending}.png") for path in paths}
    pictures: dict[Path, Path] = {}
    for path, target in targets.items():
        if path.is_file() and pictures.setdefault(target, path) != path:
            raise ValueError(f"{path}: would be drawn in {target}, as {pictures[target]}; rename one of the two")
    return targets


def class_colours(count: int) -> np.ndarray:
    """A colour for each of so many classes, unlike the others: RGB uint8 [count, 3].

    Full ones, as long as OpenCV has hues for them; of more classes several in turn have a hue, the next one paler.
    """
    shades = math.ceil(count / (HUES - 1))
    turn, shade = np.divmod(np.arange(count, dtype=np.float32), shades)
    hues = (turn + 1) * (HUES / (math.ceil(count / shades) + 1))
    saturations = 255 * (1 - PALER * shade / shades)
    coded = np.stack([hues, saturations, np.full(count, 255.0)], axis=1).astype(np.uint8)
    colours: np.ndarray = cv2.cvtColor(coded[None], cv2.COLOR_HSV2RGB)[0]
    return colours


HUES = 180  # of OpenCV
PALER = 0.6  # of the full saturation at most


def ink_on(colour: Sequence[int]) -> tuple[int, int, int]:
    """White or black, RGB, whichever is the easier to read on an RGB colour, each 0 to 255.

    Where they are equal the colour has a luminance of sqrt(1.05 * 0.05) - 0.05 (WCAG 2.2, contrast ratio).
    """
    shares = np.array([*colour]) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return (255, 255, 255) if linear @ (0.2126, 0.7152, 0.0722) < 0.179 else (0, 0, 0)


def write_picture(path: Path, image: Image) -> None:
    """Write an RGB picture as PNG, whole or not at all."""
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(encoded.tobytes()))
