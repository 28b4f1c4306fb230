# SPDX-License-Identifier: Apache-2.0
"""Mobile DeepLabv3 (arXiv:1801.04381, section 6.3): MobileNetV2 with dilations, and a class for every pixel."""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from core.folding import folded
from core.fresh_weights import start_as_identities
from model import TORCHVISION, Definition, MobileNetV2

HEAD_CHANNELS = 256


class DeepLabV3(nn.Module):
    """Normalised images [N, 3, H, W], float -> logits [N, num_classes, H, W].

    `features` are those of MobileNetV2 under their own names, so that its weights fit: without the last 1 x 1
    convolution, as in Table 7 of the paper, or with `last_map` all, which at width 1.0 are four times the channels. Of
    DeepLabv3's head (arXiv:1706.05587) there are the 1 x 1 convolution and the pooled image, not the dilated ones, nor
    the 3 x 3 that torchvision adds.
    `output_stride` (8, 16 or 32): how many times smaller than the image the map is that the head reads. `dropout`
    (probability, 0 <= p < 1) acts before the last convolution, while training.
    A batch to train on needs two images: batch-norm needs two values, and a pooled image is one.
    """

    gives_map = True  # folded() turns images upside down for TensorFlow's padding, and then turns back this map

    def __init__(
        self,
        num_classes: int = 21,  # those of Pascal VOC with the background
        width_mult: float = 1.0,
        dropout: float = 0.5,
        definition: Definition = TORCHVISION,
        output_stride: int = 16,
        last_map: bool = False,
    ) -> None:
        super().__init__()
        # Its classifier is not used.
        features = MobileNetV2(
            num_classes=1, width_mult=width_mult, dropout=0.0, definition=definition, output_stride=output_stride
        ).features
        self.features = features if last_map else features[:-1]
        channels = [layer for layer in self.features.modules() if isinstance(layer, nn.BatchNorm2d)][-1].num_features
        head = ASPP(channels, atrous_rates=(), out_channels=HEAD_CHANNELS)
        head.project[-1].p = dropout
        for layer in head.modules():  # torchvision's ASPP takes no eps
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = definition.batch_norm_eps
        self.classifier = nn.Sequential(head, nn.Conv2d(HEAD_CHANNELS, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.call(self.classifier, self.call(self.features, x))  # [N, C, H / output_stride, ..], rounded up
        logits = logits.float().contiguous()  # in channels_last cross_entropy would copy all of [N, C, H, W]
        upsample = enlarge if self.training else interpolate  # the same but for rounding
        return upsample(logits, x.shape[2:])

    def call(self, layers: nn.Module, x: Tensor) -> Tensor:
        """layers(x); in training core/recomputing.py puts a method here that keeps less for the gradients."""
        y: Tensor = layers(x)
        return y


def enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    """interpolate() but for rounding, as two products: R^T maps C, with its matrices for the rows and the columns.

    The gradients take half the time on a CPU. On a GPU those of interpolate() have other bits each time, or with
    deterministic = True take a slow routine.
    """
    # interpolate() is linear: what it makes of the identity is its matrix.
    rows, columns = (  # [H, height], [W, width]
        nn.functional.interpolate(torch.eye(small, device=maps.device)[None], large, mode="linear")[0]
        for small, large in zip(maps.shape[2:], size, strict=True)
    )
    with torch.autocast(maps.device.type, enabled=False):
        return rows.t() @ (maps @ columns)


def interpolate(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Float maps [N, C, H, W] in the size (height, width), bilinear between the centres of pixels."""
    return nn.functional.interpolate(maps, list(size), mode="bilinear", align_corners=False)


def create_network(config: ModuleType, dropout: float = 0.0) -> DeepLabV3:
    """The network of segmentation/config.py with fresh weights."""
    definition = Definition(config.model_padding, config.model_batch_norm_eps)
    network = DeepLabV3(
        config.model_num_classes, config.model_width_mult, dropout, definition, config.model_output_stride
    )
    start_as_identities(network)
    return network


def score_form(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """As folded() makes it, which tries images of 64 x 64 pixels."""
    return folded(network, dtype, (3, 64, 64))
