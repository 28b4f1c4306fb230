# SPDX-License-Identifier: Apache-2.0
"""What a training step minimises: the loss, balanced between the classes or not, and the mixing of its images."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Criterion = Callable[[Tensor, Tensor], Tensor]


def create_criterion(config: ModuleType, batches: Any, device: torch.device) -> Criterion:
    """The loss of logits [N, C] and classes int64 [N] or shares [N, C]: nats, a mean over the images.

    batches: those of training, whose dataset knows the class of each image, [M].
    """
    if config.class_weights is None:
        return nn.CrossEntropyLoss(label_smoothing=config.loss_label_smoothing)
    counts = torch.from_numpy(np.bincount(batches.dataset.targets)).float()
    return BalancedLoss((counts / counts.sum()).to(device), config.loss_label_smoothing)


class BalancedLoss:
    """Cross entropy of a softmax that counts on the shares of the classes, so that the logits need not.

    Without it the logits learn how common each class is, and rare ones are missed (arXiv:2007.07314).
    Smoothing gives each class its share of the images: an equal part would put a very rare class above the right one.
    """

    def __init__(self, shares: Tensor, label_smoothing: float) -> None:
        self.shares, self.label_smoothing = shares, label_smoothing  # float32 [C], each above 0, of sum 1

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        if not targets.is_floating_point():
            targets = nn.functional.one_hot(targets, len(self.shares))
        smoothed = (1 - self.label_smoothing) * targets + self.label_smoothing * self.shares
        return nn.functional.cross_entropy(logits + self.shares.log(), smoothed)


def create_mixing(config: ModuleType) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Mixup (arXiv:1710.09412), cutmix (arXiv:1905.04899), one of the two for each batch, or None.

    They take images or maps [N, C, H, W], mixup also [N, C], and classes int64 [N], and give shares [N, num_classes].
    """
    if config.mixup_alpha == config.cutmix_alpha == 0:
        return None
    from torchvision.transforms import v2  # takes a quarter of a second, so only for those who mix

    options = {"num_classes": config.model_num_classes}
    mixing = []
    if config.mixup_alpha > 0:
        mixing.append(v2.MixUp(alpha=config.mixup_alpha, **options))
    if config.cutmix_alpha > 0:
        mixing.append(v2.CutMix(alpha=config.cutmix_alpha, **options))
    choice = v2.RandomChoice(mixing)

    def mix(values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        maps, shares = choice(values if values.ndim == 4 else values[..., None, None], targets)
        return maps.view_as(values) if values.ndim < 4 else maps, shares

    return mix
