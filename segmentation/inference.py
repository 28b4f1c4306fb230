# SPDX-License-Identifier: Apache-2.0
"""Colour the pixels of pictures by their classes: python3 segmentation/inference.py [IMAGE or FOLDER ...].

Without arguments it takes inference_image_path of segmentation/config.py, or, where data_dir is "" too, unseen scenes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has files of the same names

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
from collections.abc import Sequence
from types import ModuleType

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from core.class_names import names_or_numbers
from core.folders import shorten
from core.picture_files import class_colours, load_stored, read_pictures, write_picture
from core.picture_sources import BACKGROUND
from core.pixels import Image
from core.settings import check_config
from core.trained_networks import load_task_network
from imgproc import resize
from inference import compute_outputs
from segmentation.model import create_network, interpolate, score_form
from segmentation.settings import RULES
from utils import choose_dtype, compile_network, describe_error, setup_runtime, user_errors

MAX_ASPECT_RATIO = 8
SMALL_SIDES = 128  # height and width together, up to which torch's routine rounds otherwise


def main(config: ModuleType, arguments: list[str]) -> None:
    check_config(config, rules=RULES)
    device = setup_runtime(config.seed, config.device, config.precision, config.deterministic)
    network, names = load_task_network(create_network, config, device)
    form = score_form(network, choose_dtype(config.precision, device))
    if config.compile_model:
        compile_network(form, device)
    names = names_or_numbers(names, first=[BACKGROUND], count=config.model_num_classes)
    for name, image, target in read_pictures(arguments, config, "classes", describe_error, load=load_unless_long):
        classes = classify_pixels(form, config, device, image)
        write_picture(target, coloured(image, classes, len(names)))
        print(f"{name}: {describe(classes, names)}; coloured in {target}")


def load_unless_long(path: Path) -> Image:
    """As load_stored(). Raises: ValueError too for a picture that would be huge with a short side of image_size."""
    image = load_stored(path)
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise ValueError(
            f"{path}: {width} x {height} pixels; one side is over {MAX_ASPECT_RATIO} times the other; cut it in pieces"
        )
    return image


def classify_pixels(form: nn.Module, config: ModuleType, device: torch.device, image: Image) -> np.ndarray:
    """The class of each pixel: uint8 [H, W, 3] -> int64 [H, W].

    The network sees the picture with a short side of image_size, while validation squashes it to a square, and gives
    logits of that size; those are then resized to the picture. `form`: score_form() of the network.
    Raises: as compute_outputs().
    """
    height, width = image.shape[:2]
    scale = config.image_size / min(height, width)
    small = resize(image, round(scale * height), round(scale * width))
    logits = compute_outputs(form, config, device, small)
    classes: np.ndarray = likeliest_classes(logits, (height, width)).cpu().numpy()
    return classes


def likeliest_classes(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """interpolate(logits, size)[0].argmax(0) bit for bit, with the memory of one class: int64 [H, W].

    logits: [1, C, h, w], finite and contiguous. All maps of 21 classes take a gigabyte for a photo of 12 megapixels.
    """
    # torch has routines of their own, which round otherwise, for three maps and for small ones (2.15: UpSampleKernel).
    if logits.shape[1] == 3 or sum(size) <= SMALL_SIDES:
        return interpolate(logits, size)[0].argmax(0)
    best = interpolate(logits[:, :1], size)[0, 0]
    classes = torch.zeros(size, dtype=torch.int64, device=logits.device)
    for place in range(1, logits.shape[1]):
        values = interpolate(logits[:, place : place + 1], size)[0, 0]
        classes.masked_fill_(values > best, place)  # of equal ones the first stays, as argmax() has it
        torch.maximum(best, values, out=best)
    return classes


def describe(classes: np.ndarray, names: Sequence[str]) -> str:
    """The classes in a picture, and their shares of its pixels, largest first."""
    found, counts = np.unique(classes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{shorten([names[found[place]]])} {counts[place] / classes.size:.1%}" for place in order)


def coloured(image: Image, classes: np.ndarray, num_classes: int) -> Image:
    """The picture with a colour mixed into each class but the background."""
    colours = class_colours(num_classes - 1)
    colours = np.concatenate([colours[:1], colours])  # any for the background, which stays as it is
    mixed = cv2.addWeighted(image, 0.4, colours[classes], 0.6, 0)
    return np.where(classes[..., None] > 0, mixed, image)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files and folders of images")
    parsed = parser.parse_args()
    with user_errors(config_name="segmentation/config.py"):
        from segmentation import config

        main(config, parsed.images)
