# SPDX-License-Identifier: Apache-2.0
"""What a training step minimises: the loss, weighted by class or not, and the mixing of its images."""

from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from core.checkpoints import TrainState

Criterion = Callable[[Tensor, Tensor], Tensor]


def create_criterion(config: ModuleType, state: TrainState) -> Criterion:
    """The loss of logits [N, C] and classes int64 [N] or shares [N, C]: nats, a mean over the images."""
    if config.class_weights is None:
        return nn.CrossEntropyLoss(label_smoothing=config.loss_label_smoothing)
    return BalancedLoss(balanced_weights(state.class_counts).to(state.device), config.loss_label_smoothing)


class BalancedLoss:
    """Cross entropy in which each image counts as much as its class weighs; of mixed images their shares.

    torch's own weights are of logits: they weigh what label smoothing gives to the other classes by those, so that a
    rare class wins everywhere, and divide by the weights of the batch, which in small ones undoes them.
    """

    def __init__(self, weights: Tensor, label_smoothing: float) -> None:
        self.weights = weights  # float32 [C]
        self.losses = nn.CrossEntropyLoss(label_smoothing=label_smoothing, reduction="none")

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        weights = targets @ self.weights if targets.is_floating_point() else self.weights[targets]
        mean: Tensor = (weights * self.losses(logits, targets)).mean()
        return mean


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """The weight of each class, float32 [C]: the images of an average class over its own, so that each counts alike.

    Their mean over all images is 1.
    """
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
