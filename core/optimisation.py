# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a training run, its learning rates, and which batches make a step."""

import inspect
import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn

from core.checkpoints import TrainState


class QuickSGD(torch.optim.SGD):
    """torch.optim.SGD without the marks for torch.compile around its methods, which import all of the compiler.

    That takes as long as importing torch, at the start of every run; what is compiled here is the network alone.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def create_optimizer(network: nn.Module, config: ModuleType) -> torch.optim.SGD:
    """SGD over what is trained: the blocks at backbone_lr_factor times config.model_lr, what follows them at that.

    The parameters have the order that checkpoints number them in: kernels, then scales and biases, each from the first
    layer to the last.
    """
    trained = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    groups = []
    # Scales and biases gain nothing from decay.
    for is_decayed, weight_decay in ((True, config.model_weight_decay), (False, 0.0)):
        for is_block, factor in ((True, config.backbone_lr_factor), (False, 1.0)):
            part = [w for name, w in trained if name.startswith("features.") == is_block]
            weights = [weight for weight in part if (weight.ndim > 1) == is_decayed]
            groups.append({"params": weights, "weight_decay": weight_decay, "lr": factor * config.model_lr})
    return QuickSGD(
        groups, lr=config.model_lr, momentum=config.model_momentum, nesterov=config.model_momentum > 0, fused=True
    )


def warmup_cosine(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """The share of the peak learning rate at a step: linear up to 1, then half a cosine down to 0."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor


def place_in_group(index: int, num_batches: int, accumulation_steps: int) -> tuple[int, bool]:
    """How many batches make the optimizer step that a batch belongs to, and whether it is the last of them."""
    first = index // accumulation_steps * accumulation_steps
    size = min(accumulation_steps, num_batches - first)
    return size, index + 1 == first + size


def take_step(state: TrainState, index: int) -> None:
    """Let the optimizer, the schedule and the average take what batch `index` completes."""
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.get_total_norm([weight.grad for weight in state.network.parameters() if weight.grad is not None])
    if state.scaler.is_enabled():
        state.meter.count_skipped(norm)
    else:
        state.finite.add_gradient(index, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.scheduler.step()
    state.ema_network.update_parameters(state.network)
    state.position = index + 1
