# SPDX-License-Identifier: Apache-2.0
"""What a training step minimises: the loss, weighted by class or not, and the mixing of its images."""

from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from core.checkpoints import TrainState


def create_criterion(config: ModuleType, state: TrainState) -> nn.CrossEntropyLoss:
    """The loss of logits [N, C] and classes int64 [N] or shares [N, C]: nats, a mean over the images."""
    is_balanced = config.class_weights == "balanced"
    weights = balanced_weights(state.class_counts).to(state.device) if is_balanced else None
    return nn.CrossEntropyLoss(weights, label_smoothing=config.loss_label_smoothing)


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """The weight of each class, float32 [C]: the images of an average class over its own, so that each counts alike."""
    images = torch.tensor(counts, dtype=torch.float32)
    return images.mean() / images


def create_mixing(config: ModuleType) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Mixup (arXiv:1710.09412), cutmix (arXiv:1905.04899), one of the two for each batch, or None."""
    if config.mixup_alpha == config.cutmix_alpha == 0:
        return None
    from torchvision.transforms import v2  # takes a quarter of a second, so only for those who mix

    options = {"num_classes": config.model_num_classes}
    mixing = []
    if config.mixup_alpha > 0:
        mixing.append(v2.MixUp(alpha=config.mixup_alpha, **options))
    if config.cutmix_alpha > 0:
        mixing.append(v2.CutMix(alpha=config.cutmix_alpha, **options))
    choice: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = v2.RandomChoice(mixing)
    return choice
