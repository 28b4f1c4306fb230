# SPDX-License-Identifier: Apache-2.0
"""Average precision of the weights of detection/config.py on pictures never trained on: python3 detection/test.py."""

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
from detection.dataset import BoxDataset
from detection.model import create_network, score_form
from detection.scoring import BoxScores
from detection.settings import RULES
from utils import user_errors


def prepare(config: ModuleType, device: torch.device, dtype: torch.dtype) -> tuple[nn.Module, BoxDataset, BoxScores]:
    """The form that scores, the pictures to test on, and the average precision."""
    network, class_names = load_task_network(create_network, config, device)
    pictures = BoxDataset(open_pictures(config, "test", class_names), config.image_size)
    return score_form(network, dtype), pictures, BoxScores(network, config.model_num_classes)


def report(config: ModuleType, scores: BoxScores, classes: Sequence[str]) -> dict[str, Any]:
    """The average precision of each class, over all overlaps and at an IoU of 0.5: percent."""
    values = 100 * scores.precisions()
    return {"ap": name_shares(classes, values.mean(axis=0)), "ap50": name_shares(classes, values[0])}


DETECTION = Tested(rules=RULES, title="AP", prepare=prepare, report=report)

if __name__ == "__main__":
    with user_errors(config_name="detection/config.py"):
        from detection import config

        test.main(config, DETECTION)
