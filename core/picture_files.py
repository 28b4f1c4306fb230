# SPDX-License-Identifier: Apache-2.0
"""The pictures that a task takes apart, and where what it found in them is drawn."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from core.atomic_files import write_atomically
from core.digit_scenes import split_scenes
from core.image_files import load_image
from core.pixels import Image

SHOWN_SCENES = 4


def read_pictures(arguments: list[str], config: ModuleType, ending: str) -> Iterator[tuple[str, Image, Path]]:
    """Each picture's name, its pixels and the PNG file to draw it in, whose name has the ending.

    Without arguments that of inference_image_path; without this, scenes that nothing was trained on.
    Raises: ValueError for two to be drawn in one file, before the first; as load_image().
    """
    paths = arguments or [config.inference_image_path]
    if paths == [""]:
        scenes = split_scenes("test", SHOWN_SCENES, config.image_size)
        for number in range(SHOWN_SCENES):
            target = Path("results", config.exp_name, f"scene_{number}_{ending}.png")
            yield f"scene {number} of the test scenes", scenes[number].image, target
        return
    for target, path in choose_targets(list(map(Path, paths)), config.exp_name, ending).items():
        yield str(path), load_image(path), target


def choose_targets(paths: list[Path], exp_name: str, ending: str) -> dict[Path, Path]:
    """Where each picture is drawn. Raises: ValueError for two in one place."""
    targets: dict[Path, Path] = {}
    for path in paths:
        target = Path("results", exp_name, f"{path.stem}_{ending}.png")
        if targets.setdefault(target, path) != path:
            raise ValueError(f"{path}: would be drawn in {target}, as {targets[target]}; rename one of the two")
    return targets


def class_colours(count: int) -> np.ndarray:
    """A colour for each of so many classes, bright and unlike the others: RGB uint8 [count, 3]."""
    hues = np.arange(1, count + 1, dtype=np.float32) * (180 / (count + 1))  # OpenCV has 180 of them
    bright = np.full((2, count), 255.0)
    colours: np.ndarray = cv2.cvtColor(np.stack([hues, *bright], axis=1).astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]
    return colours


def write_picture(path: Path, image: Image) -> None:
    """Write an RGB picture as PNG, whole or not at all."""
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(encoded.tobytes()))
