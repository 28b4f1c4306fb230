# SPDX-License-Identifier: Apache-2.0
"""The exponential moving average of a network."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """The exponential moving average of weights and batch-norm statistics.

    Update n keeps min(decay, (1 + n) / (10 + n)) of the average, so that a short run is not judged by its beginning
    (the warm-up of tf.train.ExponentialMovingAverage); the first one, n = 0, keeps nothing.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay

    def update_parameters(self, network: nn.Module) -> None:
        # AveragedModel's own method copies this count, which lies on the CPU, to the GPU and waits for it.
        updates = int(self.n_averaged)
        mix = get_ema_multi_avg_fn(min(self.decay, (1 + updates) / (10 + updates)) if updates else 0.0)
        # Without what is frozen, and batch-norm's counters, which averaged_weights() takes from the network.
        weights = zip(self.module.parameters(), network.parameters(), strict=True)
        moving = [(mean.detach(), weight.detach()) for mean, weight in weights if weight.requires_grad]
        buffers = zip(self.module.buffers(), network.buffers(), strict=True)
        moving += [(mean, buffer) for mean, buffer in buffers if buffer.is_floating_point()]
        mix(*map(list, zip(*moving, strict=True)), updates)
        self.n_averaged += 1
