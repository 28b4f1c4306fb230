# SPDX-License-Identifier: Apache-2.0
"""Write the network of segmentation/config.py as an ONNX file for other devices: python3 segmentation/export.py.

It reads config.model_weights_path and writes results/<exp_name>/export/deeplab_v3-onnx.onnx and .json, which says what
the file takes and gives. They get their names only after ONNX Runtime has given the answers of torch on test scenes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))  # what all exports share
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has files of the same names

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import signal
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.class_names import numbered_classes
from core.digit_scenes import SCENE_CLASSES
from core.picture_sources import BACKGROUND, SceneSource
from core.plurals import counted
from exporting.networks import Normalization, plain_copy
from exporting.task_files import Answer, Exported, export_task, in_batches, load_for_export
from imgproc import normalize
from segmentation.dataset import MaskedImages
from segmentation.model import DeepLabV3, create_network, interpolate
from segmentation.scoring import summarise
from segmentation.settings import RULES
from utils import user_errors

SCENES = 100  # that are compared
OTHER_SIDES = ((33, 18), (0, 71))  # pixels more than image_size, high and wide: not all multiples of the stride
# Of the largest logit, and of 10 where that is smaller. Ten times a classifier's, which are sums over whole maps:
# random networks whose batch-norms have the statistics of scenes reached 2.5e-5 in 400,000 logits.
LOGIT_TOLERANCE = 1e-4
LEAST_EQUAL = 99.9  # percent of the pixels; where two classes are as likely, rounding decides


def main(config: ModuleType) -> None:
    network, names = load_for_export(create_network, config, RULES)
    names = names or [BACKGROUND, *numbered_classes(config.model_num_classes - 1)]
    figures = export_task(config, to_export(network, config, names), partial(verify, network.eval(), config, names))
    scores = f"mIoU {figures['miou']:.3f} (torch {figures['torch_miou']:.3f}) " if "miou" in figures else ""
    print(
        f" * {scores}equal pixels {figures['equal_pixels']:.3f} % ({counted(figures['images'], 'image')})\n"
        f"   largest difference of a logit {figures['largest_difference']:.1e}"
    )


class LevelSegmenter(nn.Module):
    """uint8 levels [N, H, W, 3] -> classes uint8 [N, H, W], logits float32 [N, C, H / stride, W / stride], rounded up.

    The logits are those of the map that the head reads: the classes come from them, and at full size they would be
    four times the bytes of the picture for each three classes.
    """

    def __init__(self, network: DeepLabV3, mean: list[float], std: list[float]) -> None:
        super().__init__()
        plain = plain_copy(network, None)
        self.normalization = Normalization(mean, std)
        self.features, self.classifier = plain.get_submodule("features"), plain.get_submodule("classifier")

    def forward(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classifier(self.features(self.normalization(levels)))
        return interpolate(logits, levels.shape[1:3]).argmax(1).to(torch.uint8), logits


def to_export(network: DeepLabV3, config: ModuleType, names: list[str]) -> Exported:
    """What the file is to be, for pictures of any size."""
    size = config.image_size
    return Exported(
        network=LevelSegmenter(network, config.model_mean_parameters, config.model_std_parameters).eval(),
        example=torch.zeros(2, size, size + 32, 3, dtype=torch.uint8),
        free_axes={0: "batch", 1: "height", 2: "width"},
        traced=["classes", "logits"],
        finish=lambda model: None,
        input={
            "sides": "any, from 64 pixels on",
            "resize": {"short_side": size, "method": "bilinear, antialiased"},
        },
        outputs={
            "classes": {"type": "uint8", "shape": ["batch", "height", "width"], "values": "places in `classes`"},
            "logits": {
                "type": "float32",
                "shape": ["batch", len(names), "height / stride", "width / stride"],
                "stride": config.model_output_stride,
                "resize": "bilinear, half-pixel centres, to height and width; the largest is the class",
            },
        },
        classes=names,
    )


@torch.inference_mode()
def verify(network: DeepLabV3, config: ModuleType, names: list[str], answer: Answer) -> dict[str, Any]:
    """The figures of a file that gives what the network gives for test scenes. Raises: ValueError if it does not.

    With a mean IoU if its classes are those of the scenes.
    """
    shares = config.model_mean_parameters, config.model_std_parameters
    mean, std = (torch.tensor(values) for values in shares)
    comparison = Comparison(len(names) if names[1:] == SCENE_CLASSES else 0)
    for levels, masks in pictures(config.image_size):
        images = normalize(torch.from_numpy(levels).permute(0, 3, 1, 2), mean, std)
        small = network.classifier(network.features(images))
        classes = interpolate(small, images.shape[2:]).argmax(1)
        comparison.add(answer(levels), classes, small, torch.from_numpy(masks).long())
    figures = comparison.figures()
    tolerance = LOGIT_TOLERANCE * max(10.0, figures["largest_logit"])
    difference, equal = figures["largest_difference"], figures["equal_pixels"]
    if not difference <= tolerance:
        raise ValueError(
            f"a logit of the file differs by {difference:.1e} from torch's, above {tolerance:.1e}; refused"
        )
    if not equal >= LEAST_EQUAL:
        raise ValueError(
            f"the file gives the class of torch for {equal:.2f} % of the pixels, below {LEAST_EQUAL}; refused"
        )
    return figures


def pictures(image_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Test scenes uint8 [N, H, W, 3] and masks uint8 [N, H, W], in batches of several sizes, then of other sides."""
    yield from in_batches(MaskedImages(SceneSource("test", SCENES, image_size), image_size))
    for height, width in OTHER_SIDES:
        side = image_size + max(height, width)
        window = slice(None), slice(image_size + height), slice(image_size + width)
        for images, masks in in_batches(MaskedImages(SceneSource("test", 1, side), side)):
            yield images[window], masks[window]


class Comparison:
    """The answers of a file beside those of the network, summed over all pictures; `scored`: classes of a mean IoU."""

    def __init__(self, scored: int) -> None:
        self.scored = scored
        self.tables = torch.zeros(2, scored, scored, dtype=torch.int64)  # of the file, and of torch
        self.images = self.equal = self.pixels = 0
        self.largest = self.difference = 0.0

    def add(self, answers: list[Tensor], expected: Tensor, expected_logits: Tensor, masks: Tensor) -> None:
        """Of one batch. Raises: ValueError for outputs of other shapes."""
        classes, logits = answers
        if classes.shape != expected.shape or logits.shape != expected_logits.shape:
            shapes = f"{list(classes.shape)} and {list(logits.shape)}"
            raise ValueError(f"the file gives {shapes} for pictures of {list(masks.shape)}; refused")
        self.images, self.pixels = self.images + len(masks), self.pixels + masks.numel()
        self.equal += int((classes == expected).sum())
        self.largest = max(self.largest, expected_logits.abs().max().item())
        # Kept if it is NaN, which max() would lose.
        self.difference = torch.tensor([self.difference, (logits - expected_logits).abs().max()]).max().item()
        for table, found in zip(self.tables, (classes.long(), expected), strict=True) if self.scored else ():
            places = (masks * self.scored + found).flatten()
            table += torch.bincount(places, minlength=table.numel()).view_as(table)

    def figures(self) -> dict[str, Any]:
        """Counts, percent, and logits as they are."""
        scores = {
            name: summarise(table)["miou"] for name, table in zip(("miou", "torch_miou"), self.tables, strict=True)
        }
        return {
            "images": self.images,
            **(scores if self.scored else {}),
            "equal_pixels": 100 * self.equal / self.pixels,
            "largest_logit": self.largest,
            "largest_difference": self.difference,
        }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # past what removes files
    with user_errors("Interrupted; no file was left half written.", "segmentation/config.py"):
        from segmentation import config

        main(config)
