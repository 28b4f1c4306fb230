# SPDX-License-Identifier: Apache-2.0
"""The stop of a run whose loss or gradients are not finite any more."""

from types import ModuleType
from typing import Protocol

from core.checkpoints import TrainState
from core.metrics import NO_BATCH
from core.processes import least_over_processes
from core.settings import config_lines


class NamedBatches(Protocol):
    """Batches that know their images."""

    def files(self, number: int) -> list[str]: ...


def averages_so_far(config: ModuleType, state: TrainState, batches: NamedBatches) -> dict[str, float]:
    """EpochMeter.averages() of the epoch in all processes. Raises: as stop_if_not_finite()."""
    stop_if_not_finite(config, state, batches)
    return state.meter.over_processes().averages()


def stop_if_not_finite(config: ModuleType, state: TrainState, batches: NamedBatches) -> None:
    """Raise FloatingPointError, in all processes, if a loss or gradient of this epoch was not finite in one of them."""
    loss, gradient = state.finite.first_batches()
    first_loss = least_over_processes(loss)
    number, what = (first_loss, "the loss") if first_loss <= gradient else (gradient, "a gradient")
    if number == NO_BATCH:
        return
    files = batches.files(number)
    shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    if what == "the loss" and loss > first_loss:
        shown = "of another process, which names its images"
    raise FloatingPointError(
        f"{what} became infinite or NaN in batch {number + 1} of epoch {state.epoch + 1} ({shown}); "
        f"lower model_lr (config.py line {config_lines(config).get('model_lr', '?')}); the checkpoints before it stay"
    )
