# SPDX-License-Identifier: Apache-2.0
"""Train the network of detection/config.py, with the loop of train.py: python3 detection/train.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has files of the same names

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import math
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

import train
from core.checkpoints import TrainState
from core.metrics import LossMeter
from core.network_weights import load_pretrained_features
from core.picture_sources import open_pictures
from core.recomputing import recomputing
from core.reports import Writer, log_images, tell_losses_apart
from core.tasks import Loss, Task
from dataset import CPUPrefetcher, create_batches
from detection.dataset import BoxDataset, augmentation, take_targets
from detection.model import SSDLite, create_network, score_form
from detection.scoring import BoxScores
from detection.settings import RULES
from imgproc import denormalize
from utils import autocast, user_errors


def create_splits(config: ModuleType, device: torch.device) -> tuple[CPUPrefetcher, CPUPrefetcher]:
    """The batches to train and to validate on."""
    loading = train.training_options(config, device)
    augment, skip_bad = augmentation(config), config.bad_images == "skip"
    train_set = BoxDataset(open_pictures(config, "train"), config.image_size, config.seed, augment, skip_bad)
    valid_set = BoxDataset(open_pictures(config, "valid", train_set.classes), config.image_size)
    return create_batches(train_set, **loading), create_batches(valid_set, **loading)


def create_loss(config: ModuleType, state: TrainState, batches: CPUPrefetcher, writer: Writer) -> Loss:
    """What gives the loss of a batch, images [N, 3, S, S] and objects [N, M, 6], and adds it to state.meter.

    It is the sum of that of the classes and that of the boxes.
    """

    def compute_loss(images: Tensor, objects: Tensor, index: int) -> Tensor:
        if state.epoch == index == 0:
            log_images(writer, denormalize(images[:16], batches.mean, batches.std))
        with autocast(state.device, state.dtype):
            losses = state.parallel_network(images, take_targets(objects))
        loss: Tensor = losses["classification"] + losses["bbox_regression"]
        state.meter.add_loss(loss, len(images))
        return loss

    return compute_loss


def create_scores(config: ModuleType, state: TrainState) -> BoxScores:
    return BoxScores(cast(SSDLite, state.network), config.model_num_classes)


def compare_losses(config: ModuleType) -> str:
    return tell_losses_apart(
        {
            "pictures cropped at random": config.random_crop_scale is not None,
            "augmentation": config.random_flip_probability > 0
            or config.random_zoom_out > 1
            or config.random_photometric_distortion,
        }
    )


def guessing_loss(config: ModuleType) -> float:
    """What a fresh network has at most, but for a few tenths.

    For each anchor with an object there are the classes of it and of three without. These are the three that look most
    like objects, so that each of the four costs 1 to 1.4 more than equal shares would; and the box costs 3 to 5: all
    measured in the scenes, with 1 to 400 classes. The most of both together does not come.
    """
    return 4 * (math.log(config.model_num_classes + 1) + 1.5) + 4


DETECTION = Task(
    rules=RULES,
    score="map",
    meter=LossMeter,
    create_splits=create_splits,
    create_network=create_network,
    load_pretrained_weights=load_pretrained_features,
    train_form=recomputing,
    score_form=score_form,
    create_loss=create_loss,
    create_scores=create_scores,
    guessing_loss=guessing_loss,
    compare_losses=compare_losses,
)

if __name__ == "__main__":
    with user_errors(
        'Interrupted; training continues at its newest checkpoint with resume = "auto".', "detection/config.py"
    ):
        from detection import config

        train.main(config, DETECTION)
