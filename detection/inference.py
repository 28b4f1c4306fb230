# SPDX-License-Identifier: Apache-2.0
"""Draw boxes around the objects in pictures: python3 detection/inference.py [IMAGE or FOLDER ...].

Without arguments it takes inference_image_path of detection/config.py, or, where data_dir is "" too, unseen scenes.
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
from typing import Any, NamedTuple

import cv2
import torch

from core.class_names import names_or_numbers
from core.folders import shorten
from core.picture_files import class_colours, ink_on, read_pictures, write_picture
from core.pixels import Image
from core.settings import check_config
from core.trained_networks import load_task_network
from detection.model import by_name, create_network, score_form
from detection.settings import RULES
from imgproc import resize
from inference import compute_outputs
from utils import choose_dtype, compile_network, describe_error, setup_runtime, user_errors


class Found(NamedTuple):
    """An object that was found."""

    label: int  # the place of its class, from 0
    score: float  # 0..1
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels


def main(config: ModuleType, arguments: list[str]) -> None:
    check_config(config, rules=RULES)
    device = setup_runtime(config.seed, config.device, config.precision, config.deterministic)
    network, names = load_task_network(create_network, config, device)
    names = names_or_numbers(names, first=[], count=config.model_num_classes)
    form = score_form(network, choose_dtype(config.precision, device))
    if config.compile_model:
        compile_network(form, device)
    for name, image, target in read_pictures(arguments, config, ending="boxes", describe=describe_error):
        found = find_objects(form, config, device, image)
        write_picture(target, drawn(image, found, names))
        print(f"{name}: {describe(found, names, config.inference_score_threshold)}; drawn in {target}")


def find_objects(form: Any, config: ModuleType, device: torch.device, image: Image) -> list[Found]:
    """The objects in a picture uint8 [H, W, 3], likeliest first, from inference_score_threshold on.

    `form`: score_form() of an SSDLite, which sees the picture squashed to a square of image_size.
    Raises: as compute_outputs().
    """
    small = resize(image, config.image_size, config.image_size)
    outputs = compute_outputs(form, config, device, small, what="an output")
    (found,) = form.detections(by_name(outputs))
    height, width = image.shape[:2]
    boxes = found["boxes"].cpu() * (torch.tensor([width, height, width, height]) / config.image_size)
    rows = zip(found["labels"].tolist(), found["scores"].tolist(), boxes.tolist(), strict=True)
    threshold = config.inference_score_threshold
    return [Found(label - 1, score, tuple(box)) for label, score, box in rows if score >= threshold]


def describe(found: list[Found], names: Sequence[str], threshold: float) -> str:
    """Names and scores, likeliest first."""
    return ", ".join(title(each, names) for each in found) or f"nothing of {threshold:.0%} or more"


def title(found: Found, names: Sequence[str]) -> str:
    return f"{shorten([names[found.label]])} {found.score:.0%}"


def drawn(image: Image, found: list[Found], names: Sequence[str]) -> Image:
    """The picture with the boxes, and the name and the score of each."""
    picture = image.copy()
    side = min(picture.shape[:2])
    thickness, scale = max(1, round(side / 200)), max(0.3, side / 800)
    colours = class_colours(len(names)).tolist()
    for each in reversed(found):  # the likeliest on top
        left, top, right, bottom = map(round, each.box)
        colour, text = colours[each.label], title(each, names)
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, thickness)
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        x, y = max(0, min(left, picture.shape[1] - width)), max(top, height + below)  # within the picture
        cv2.rectangle(picture, (x, y - height - below), (x + width, y), colour, cv2.FILLED)
        place, ink = (x, y - below // 2), ink_on(colour)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thickness, cv2.LINE_AA)
    return picture


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files and folders of images")
    parsed = parser.parse_args()
    with user_errors(config_name="detection/config.py"):
        from detection import config

        main(config, parsed.images)
