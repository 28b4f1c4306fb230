# SPDX-License-Identifier: Apache-2.0
"""Loss and top-k hits, as sums that stay on the device until they are read."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from core.plurals import counted
from core.processes import process_rank, sum_over_processes


def topk_hits(logits: Tensor, targets: Tensor, ks: Sequence[int] = (1, 5)) -> Tensor:
    """Count the images whose true class is among the k highest logits (ILSVRC top-k).

    logits [N, C], targets [N] in 0..C-1 -> [len(ks)] int64 counts, not percent, on the device of `logits`, without
    a host sync. A k above C counts as C. Raises: ValueError if logits and targets disagree on N.
    """
    if len(logits) != len(targets):
        raise ValueError(f"{counted(len(logits), 'row')} of logits, {counted(len(targets), 'target')}")
    hits = likeliest(logits, max(ks)) == targets[:, None]  # [N, max(ks)]
    return torch.stack([hits[:, :k].sum() for k in ks])


def likeliest(logits: Tensor, count: int = 5) -> Tensor:
    """The classes with the highest logits [N, C], highest first: int64 [N, count], or [N, C] if there are no more.

    Of equal logits, as bfloat16 has them, torch takes one first, and by argmax() another. So all that counts hits asks
    here.
    """
    return logits.topk(min(count, logits.shape[1]), dim=1).indices


class EpochMeter:
    """Sums of loss and hits that stay on the device until averages() reads them."""

    def __init__(self, device: torch.device) -> None:
        # loss, top-1 hits, top-5 hits, images, steps that float16 skipped
        self.sums = torch.zeros(5, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """loss: mean over the N images, nats; logits [N, C]; targets int64 [N]."""
        self.add_loss(loss, len(targets))
        self.sums[1:3] += topk_hits(logits.detach(), targets)

    def add_loss(self, loss: Tensor, count: int) -> None:
        """loss: what has the weight of so many images in the mean of all, like a mean over them."""
        self.sums[0] += loss.detach() * count
        self.sums[3] += count

    def count_skipped(self, norm: Tensor) -> None:
        """Note a step that float16 skips if the norm of its gradients, the same in all processes, is not finite."""
        if process_rank() == 0:
            self.sums[4] += ~norm.isfinite()

    def over_processes(self) -> Self:
        """The sums of all processes."""
        total = type(self)(self.sums.device)
        total.sums = sum_over_processes(self.sums)
        return total

    def averages(self, remedy: str = "lower model_lr in config.py") -> dict[str, float]:
        """Loss in nats, accuracies in percent, over all images added. The only call that waits for the device.

        Raises: FloatingPointError, which ends with `remedy`, if the loss is not finite.
        """
        loss, hits1, hits5, images, skipped = self.sums.tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} in {counted(round(images), 'image')}; {remedy}")
        return {
            "loss": loss / images,
            "acc1": 100 * hits1 / images,
            "acc5": 100 * hits5 / images,
            "images": int(images),
            "skipped": int(skipped),
        }


class LossMeter(EpochMeter):
    """The same for what has no classes of whole images: without hits."""

    def averages(self, remedy: str = "lower model_lr in config.py") -> dict[str, float]:
        """The loss, in the units of what was added; as EpochMeter.averages()."""
        return {name: value for name, value in super().averages(remedy).items() if not name.startswith("acc")}


class ClassHits:
    """The top-1 hits and the images of each class, as sums that stay on the device until macro() reads them."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.sums = torch.zeros(2, num_classes, dtype=torch.int64, device=device)

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """logits [N, C]; targets int64 [N]."""
        is_hit = likeliest(logits)[:, 0] == targets
        self.sums[0].index_add_(0, targets, is_hit.long())
        self.sums[1].index_add_(0, targets, torch.ones_like(targets))

    def macro(self) -> float:
        """The mean, over the classes that have images in any process, of the percentage of hits."""
        hits, images = sum_over_processes(self.sums).double()
        return float(100 * (hits / images)[images > 0].mean())


class ClassScores:
    """Loss, accuracies and macro-averaged accuracy of a classifier, by logits [N, C] and classes int64 [N]."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.meter, self.class_hits = EpochMeter(device), ClassHits(num_classes, device)

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Of one batch."""
        self.meter.add(nn.functional.cross_entropy(logits, targets), logits, targets)
        self.class_hits.add(logits, targets)

    def so_far(self, remedy: str) -> dict[str, float]:
        """Those of this process. Raises: as EpochMeter.averages()."""
        return self.meter.averages(remedy)

    def of_all(self, remedy: str) -> dict[str, float]:
        """Those of all processes. Raises: as EpochMeter.averages()."""
        return self.meter.over_processes().averages(remedy) | {"macro": self.class_hits.macro()}


def show_scores(values: dict[str, float], num_classes: int, digits: int) -> str:
    """Those of SCORES that there are, like "Acc@1 83.90 Acc@5 95.90"; of 5 classes or fewer no best five."""
    keys = [key for key in SCORES if key in values and (num_classes > 5 or not key.endswith("5"))]
    return " ".join(f"{SCORES[key]} {values[key]:.{digits}f}" for key in keys)


SCORES = {
    **{"acc1": "Acc@1", "acc5": "Acc@5", "err1": "Err@1", "err5": "Err@5", "macro": "Macro"},
    **{"miou": "mIoU", "pixels": "Pixels", "map": "mAP", "map50": "mAP@0.5"},
}


class FiniteCheck:
    """Remembers, on the device, the first batches of an epoch whose loss and whose gradient is not finite."""

    def __init__(self, device: torch.device) -> None:
        self.first = torch.full((2,), NO_BATCH, device=device)

    def add_loss(self, number: int, loss: Tensor) -> None:
        """Note the loss of a batch."""
        self._add(0, number, loss)

    def add_gradient(self, number: int, norm: Tensor) -> None:
        """Note the norm of the gradients, those of all processes, that a batch has completed."""
        self._add(1, number, norm)

    def _add(self, place: int, number: int, value: Tensor) -> None:
        # Not torch.where(): it would copy the two numbers to the device, and wait for it.
        found = torch.full_like(self.first[place], number).masked_fill_(value.detach().isfinite(), NO_BATCH)
        self.first[place] = torch.minimum(self.first[place], found)

    def first_batches(self) -> list[int]:
        """The numbers of these batches in this process, NO_BATCH where there is none. Waits for the device."""
        return self.first.tolist()


NO_BATCH = 2**62
