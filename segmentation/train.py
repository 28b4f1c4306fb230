# SPDX-License-Identifier: Apache-2.0
"""Train the network of segmentation/config.py, with the loop of train.py: python3 segmentation/train.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has files of the same names

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import math
from types import ModuleType

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
from imgproc import denormalize
from segmentation.dataset import MaskedImages
from segmentation.model import create_network, score_form
from segmentation.scoring import PixelScores, pixel_loss
from segmentation.settings import RULES
from utils import autocast, user_errors


def create_splits(config: ModuleType, device: torch.device) -> tuple[CPUPrefetcher, CPUPrefetcher]:
    """The batches to train and to validate on."""
    loading = train.training_options(config, device)
    train_set = MaskedImages(
        open_pictures(config, "train", masks=True),
        config.image_size,
        config.seed,
        config.random_crop_scale,
        config.random_flip_probability,
        config.bad_images == "skip",
    )
    valid_set = MaskedImages(open_pictures(config, "valid", train_set.classes, masks=True), config.image_size)
    return create_batches(train_set, **loading), create_batches(valid_set, **loading)


def create_loss(config: ModuleType, state: TrainState, batches: CPUPrefetcher, writer: Writer) -> Loss:
    """What gives the loss of a batch, images [N, 3, S, S] and masks [N, S, S], and adds it to state.meter.

    Nats, a mean over the pixels that count; in the mean of an epoch each batch has the weight of its images.
    """

    def compute_loss(images: Tensor, masks: Tensor, index: int) -> Tensor:
        if state.epoch == index == 0:
            log_images(writer, denormalize(images[:16], batches.mean, batches.std))
        with autocast(state.device, state.dtype):
            logits = state.parallel_network(images)  # [N, C, S, S]
        loss = pixel_loss(logits, masks)
        state.meter.add_loss(loss, len(images))
        return loss

    return compute_loss


def compare_losses(config: ModuleType) -> str:
    return tell_losses_apart(
        {
            "pictures cropped at random": config.random_crop_scale is not None,
            "flips": config.random_flip_probability > 0,
            "dropout": config.model_dropout > 0,
        }
    )


SEGMENTATION = Task(
    rules=RULES,
    score="miou",
    meter=LossMeter,
    create_splits=create_splits,
    create_network=create_network,
    load_pretrained_weights=load_pretrained_features,
    train_form=recomputing,
    score_form=score_form,
    create_loss=create_loss,
    create_scores=lambda config, state: PixelScores(config.model_num_classes, state.device),
    guessing_loss=lambda config: math.log(config.model_num_classes),
    compare_losses=compare_losses,
)

if __name__ == "__main__":
    with user_errors(
        'Interrupted; training continues at its newest checkpoint with resume = "auto".', "segmentation/config.py"
    ):
        from segmentation import config

        train.main(config, SEGMENTATION)
