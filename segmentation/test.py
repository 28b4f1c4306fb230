# SPDX-License-Identifier: Apache-2.0
"""Mean IoU of the weights of segmentation/config.py on pictures never trained on: python3 segmentation/test.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has files of the same names

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

import test
from core.picture_sources import open_pictures
from core.score_reports import Tested, name_shares
from core.trained_networks import load_task_network
from segmentation.dataset import MaskedImages
from segmentation.model import create_network, score_form
from segmentation.scoring import PixelScores, intersection_over_union
from segmentation.settings import RULES
from utils import user_errors


def prepare(
    config: ModuleType, device: torch.device, dtype: torch.dtype
) -> tuple[nn.Module, MaskedImages, PixelScores]:
    """The form that scores, the pictures to test on, and the mean IoU."""
    network, class_names = load_task_network(create_network, config, device)
    pictures = MaskedImages(open_pictures(config, "test", class_names, masks=True), config.image_size)
    return score_form(network, dtype), pictures, PixelScores(config.model_num_classes, device)


def report(config: ModuleType, scores: PixelScores, classes: Sequence[str]) -> dict[str, Any]:
    """The IoU of each class, percent, and the output stride."""
    shares = (100 * intersection_over_union(scores.counts())).tolist()
    return {"iou": name_shares(classes, shares), "output_stride": config.model_output_stride}


SEGMENTATION = Tested(rules=RULES, title="IoU", prepare=prepare, report=report)

if __name__ == "__main__":
    with user_errors(config_name="segmentation/config.py"):
        from segmentation import config

        test.main(config, SEGMENTATION)
