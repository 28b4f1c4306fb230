# SPDX-License-Identifier: Apache-2.0
"""Mean intersection over union, as sums over all pixels of all pictures that stay on the device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.metrics import LossMeter, show_scores
from core.processes import sum_over_processes
from segmentation.dataset import IGNORED
from utils import Batches, autocast


class PixelCounts:
    """How many pixels of each class were taken for which: [true class, predicted class]."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.sums = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def add(self, predicted: Tensor, masks: Tensor) -> None:
        """Both [N, H, W]: classes; pixels that are IGNORED in the mask do not count."""
        counted = masks != IGNORED
        places = masks[counted].long() * len(self.sums) + predicted[counted]
        self.sums += torch.bincount(places, minlength=self.sums.numel()).view_as(self.sums)

    def over_processes(self) -> Tensor:
        """The counts of all processes."""
        return sum_over_processes(self.sums)


def intersection_over_union(counts: Tensor) -> Tensor:
    """[C, C] of PixelCounts -> float64 [C], 0..1: pixels of a class that are found, of all that are it or taken for it.

    NaN for a class that is in no mask and is never predicted.
    """
    counts = counts.double()
    found = counts.diagonal()
    return found / (counts.sum(0) + counts.sum(1) - found)


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: Batches,
    *,
    num_classes: int,
    device: torch.device,
    dtype: torch.dtype,
    print_frequency: int,
    on_counts: Callable[[Tensor], None] = lambda counts: None,
    should_stop: Callable[[], bool] = lambda: False,
    remedy: str = "lower model_lr in config.py",
) -> dict[str, float]:
    """Score every picture once, each process its batches: loss, mean IoU and share of right pixels, in percent.

    Leaves the network in eval mode. `on_counts` receives the pixel counts of all; `should_stop` as in
    utils.evaluate(). The mean is over the classes that are in a mask or were predicted.
    Raises: FloatingPointError, which ends with `remedy`, if the loss is not finite.
    """
    network.eval()
    meter, pixels = LossMeter(device), PixelCounts(num_classes, device)
    for index, (images, masks) in enumerate(batches, start=1):
        with autocast(device, dtype):
            logits = network(images)  # [N, C, H, W]
        logits = logits.float()
        meter.add_loss(nn.functional.cross_entropy(logits, masks.long(), ignore_index=IGNORED), len(images))
        pixels.add(logits.argmax(1), masks)
        if should_stop():
            break
        if index % print_frequency == 0:
            shown = meter.averages(remedy) | scores(pixels.sums)
            print(
                f"Test: [{index:>{len(str(len(batches)))}}/{len(batches)}] Loss {shown['loss']:.4f} "
                f"{show_scores(shown, num_classes, 2)}",
                flush=True,
            )
    counts = pixels.over_processes()
    on_counts(counts)
    return meter.over_processes().averages(remedy) | scores(counts)


def scores(counts: Tensor) -> dict[str, float]:
    """Mean IoU and share of right pixels, in percent."""
    return {
        "miou": float(100 * intersection_over_union(counts).nanmean()),
        "pixels": float(100 * counts.diagonal().sum() / counts.sum()),
    }
