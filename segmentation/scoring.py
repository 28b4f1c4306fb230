# SPDX-License-Identifier: Apache-2.0
"""Mean intersection over union, as sums over all pixels of all pictures that stay on the device."""

import torch
from torch import Tensor, nn

from core.annotated_images import IGNORED
from core.metrics import LossMeter
from core.processes import sum_over_processes


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of logits [N, C, H, W] and masks uint8 [N, H, W]: nats, a mean over the pixels that count.

    0, with gradients of 0, if none does: of none there is no mean, and NaN would end the run.
    """
    # With deterministic = True torch has no other `reduction` on a GPU for [N, C, H, W]; for rows of pixels it has, but
    # with these the loss takes seven times as long on a CPU.
    losses = nn.functional.cross_entropy(logits, masks.long(), ignore_index=IGNORED, reduction="none")
    return losses.sum() / (masks != IGNORED).sum().clamp(min=1)


class PixelScores:
    """Loss, mean IoU and share of right pixels, by logits [N, C, H, W] and masks uint8 [N, H, W].

    Pixels that are IGNORED in a mask do not count.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.meter, self.num_classes = LossMeter(device), num_classes
        # A confusion matrix: at t * num_classes + p the pixels of class t that were taken for p; then those IGNORED.
        self.cells = torch.zeros(num_classes**2 + 1, dtype=torch.int64, device=device)

    def add(self, logits: Tensor, masks: Tensor) -> None:
        """Take in a batch."""
        self.meter.add_loss(pixel_loss(logits, masks), len(logits))
        places = masks.long() * self.num_classes + logits.argmax(1)
        places = places.masked_fill_(masks == IGNORED, len(self.cells) - 1).flatten()
        self.cells.index_add_(0, places, torch.ones_like(places))

    def so_far(self, remedy: str) -> dict[str, float]:
        """Those of this process: loss in nats, IoU and share in percent. Raises: FloatingPointError as LossMeter."""
        return self.meter.averages(remedy) | summarise(self._table(self.cells))

    def of_all(self, remedy: str) -> dict[str, float]:
        """Those of all processes, as so_far()."""
        return self.meter.over_processes().averages(remedy) | summarise(self.counts())

    def counts(self) -> Tensor:
        """The confusion matrix, of all processes: pixels, int64 [true class, predicted class]."""
        return self._table(sum_over_processes(self.cells))

    def _table(self, cells: Tensor) -> Tensor:
        return cells[:-1].view(self.num_classes, self.num_classes)


def intersection_over_union(counts: Tensor) -> Tensor:
    """A confusion matrix [C, C] -> float64 [C], 0..1: true positives / (these, false positives, false negatives).

    NaN for a class that is in no mask and is never predicted.
    """
    counts = counts.double()
    found = counts.diagonal()
    return found / (counts.sum(0) + counts.sum(1) - found)


def summarise(counts: Tensor) -> dict[str, float]:
    """Mean IoU, over the classes that are in a mask or were predicted, and share of right pixels, in percent.

    0 if no pixel counts.
    """
    return {
        "miou": float(100 * intersection_over_union(counts).nanmean().nan_to_num()),
        "pixels": float(100 * counts.diagonal().sum() / counts.sum().clamp(min=1)),
    }
