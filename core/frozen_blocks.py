# SPDX-License-Identifier: Apache-2.0
"""A network cut in two: the first blocks, which stay as they are, and what follows them, which is trained."""

import copy
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from core.folding import folded, has_fused_convolution, has_native_bfloat16
from core.settings import config_lines
from model import mean_of_map


class FrozenPart(nn.Module):
    """The first blocks: images [N, 3, S, S] -> their output [N, C, h, w]; after all of them its mean, [N, C].

    `blocks`: how many of network.features.
    """

    def __init__(self, network: nn.Module, blocks: int) -> None:
        super().__init__()
        features = network.get_submodule("features")
        self.features = nn.Sequential(*list(features.children())[:blocks])
        self.gives_map = blocks < len(list(features.children()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return x if self.gives_map else mean_of_map(x)


class TrainedPart(nn.Module):
    """What follows the frozen blocks: their output -> logits [N, num_classes], with the weights of the network."""

    def __init__(self, network: nn.Module, blocks: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*list(network.get_submodule("features").children())[blocks:])
        self.classifier = network.get_submodule("classifier")

    def forward(self, x: Tensor) -> Tensor:
        if len(self.features):
            x = mean_of_map(self.features(x))
        logits: Tensor = self.classifier(x)
        return logits


class FrozenForm:
    """The first blocks as they compute in training: images [N, 3, S, S] -> float32 [N, C, h, w] or [N, C].

    As in evaluation, batch-norm folded, without gradients; its dtype is that of the convolutions.
    """

    def __init__(self, network: nn.Module, blocks: int, dtype: torch.dtype) -> None:
        self.part = FrozenPart(network, blocks)
        self.form, self.dtype = folded(self.part, dtype), dtype

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs: Tensor = self.form(images)
        return outputs.float()


def output_shape(part: FrozenPart, image_size: int) -> tuple[int, ...]:
    """The shape of the output of the first blocks for one image, [C, h, w] or [C]."""
    part = copy.deepcopy(part).eval().to("meta")
    return tuple(part(torch.zeros(1, 3, image_size, image_size, device="meta")).shape[1:])


def choose_frozen_dtype(config: ModuleType, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The arithmetic in which frozen blocks are fastest; unless precision = "auto" it is `dtype`, that of training."""
    if config.precision == "auto" and has_native_bfloat16() and has_fused_convolution(device, torch.bfloat16):
        return torch.bfloat16
    return dtype


def refuse_untrained(config: ModuleType, start: Path | None) -> None:
    """Raise ValueError if the blocks that are to be frozen are those of a new network."""
    if start is None and not config.pretrained_model_weights_path:
        lines = config_lines(config)
        raise ValueError(
            f"config.py line {lines.get('frozen_blocks', '?')}: frozen_blocks = {config.frozen_blocks} would keep "
            "random weights; set pretrained_model_weights_path (line "
            f"{lines.get('pretrained_model_weights_path', '?')}) to trained ones"
        )
