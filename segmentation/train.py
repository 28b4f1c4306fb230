# SPDX-License-Identifier: Apache-2.0
"""Train the network of segmentation/config.py, with the loop of train.py: python3 segmentation/train.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has files of the same names

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import Tensor, nn

import train
from core.reports import tell_losses_apart
from core.score_reports import name_shares
from core.tasks import Task
from segmentation.dataset import open_split
from segmentation.model import create_network, score_form
from segmentation.scoring import PixelScores, intersection_over_union, pixel_loss
from segmentation.settings import RULES
from utils import user_errors


def compute_loss(network: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    """Of images [N, 3, S, S] and masks [N, S, S]: nats, a mean over the pixels that count."""
    return pixel_loss(network(images), masks)


def compare_losses(config: ModuleType) -> str:
    return tell_losses_apart(
        {
            "pictures cropped at random": config.random_crop_scale is not None,
            "flips": config.random_flip_probability > 0,
            "dropout": config.model_dropout > 0,
        }
    )


def report(config: ModuleType, scores: PixelScores, classes: Sequence[str]) -> dict[str, Any]:
    """The IoU of each class, percent, and the output stride."""
    shares = (100 * intersection_over_union(scores.counts())).tolist()
    return {"iou": name_shares(classes, shares), "output_stride": config.model_output_stride}


SEGMENTATION = Task(
    rules=RULES,
    score="miou",
    open_split=open_split,
    create_network=create_network,
    score_form=score_form,
    create_loss=train.metered(compute_loss),
    create_scores=lambda config, network, device: PixelScores(config.model_num_classes, device),
    guessing_loss=lambda config: math.log(config.model_num_classes),
    compare_losses=compare_losses,
    title="IoU",
    report=report,
)

if __name__ == "__main__":
    with user_errors(
        'Interrupted; training continues at its newest checkpoint with resume = "auto".', "segmentation/config.py"
    ):
        from segmentation import config

        train.main(config, SEGMENTATION)
