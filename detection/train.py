# SPDX-License-Identifier: Apache-2.0
"""Train the network of detection/config.py, with the loop of train.py: python3 detection/train.py."""

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
from detection.dataset import open_split, take_targets
from detection.model import create_network, score_form
from detection.scoring import BoxScores
from detection.settings import RULES
from utils import user_errors


def compute_loss(network: nn.Module, images: Tensor, objects: Tensor) -> Tensor:
    """Of images [N, 3, S, S] and objects [N, M, 6]: the loss of the classes and that of the boxes, added up."""
    losses = network(images, take_targets(objects))
    loss: Tensor = losses["classification"] + losses["bbox_regression"]
    return loss


def guessing_loss(config: ModuleType) -> float:
    """About the most that the loss of a fresh network is, to a few tenths; train.py says so if one is far above it.

    For each anchor with an object: its own cross entropy and those of three background anchors, log(classes + 1) + 1.5
    each, and 4 for the box. Measured in the scenes, with 1 to 400 classes.
    """
    return 4 * (math.log(config.model_num_classes + 1) + 1.5) + 4


def compare_losses(config: ModuleType) -> str:
    return tell_losses_apart(
        {
            "pictures cropped at random": config.random_crop_scale is not None,
            "augmentation": config.random_flip_probability > 0
            or config.random_zoom_out > 1
            or config.random_photometric_distortion,
        }
    )


def report(config: ModuleType, scores: BoxScores, classes: Sequence[str]) -> dict[str, Any]:
    """The average precision of each class, over all overlaps and at an IoU of 0.5: percent."""
    values = 100 * scores.precisions
    return {"ap": name_shares(classes, values.mean(axis=0)), "ap50": name_shares(classes, values[0])}


DETECTION = Task(
    rules=RULES,
    score="map",
    open_split=open_split,
    create_network=create_network,
    score_form=score_form,
    create_loss=train.metered(compute_loss),
    create_scores=lambda config, network, device: BoxScores(network, config.model_num_classes),
    guessing_loss=guessing_loss,
    compare_losses=compare_losses,
    title="AP",
    report=report,
)

if __name__ == "__main__":
    with user_errors(
        'Interrupted; training continues at its newest checkpoint with resume = "auto".', "detection/config.py"
    ):
        from detection import config

        train.main(config, DETECTION)
