# SPDX-License-Identifier: Apache-2.0
"""A trained network as other runtimes take it: plain layers alone, batch-norm folded, in one memory format."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from core.folding import turn_padding
from exporting.requests import LEVEL_INPUT, Choices
from model import ReLU6, StridedConv2d


class PlainNetwork(nn.Module):
    """[N, 3, S, S] float32, or uint8 levels [N, S, S, 3] -> logits [N, C], or probabilities.

    Has only what the exporters and quantisers of other libraries know: nn.Conv2d, nn.ReLU6, nn.Linear and sums. The
    mean of the last map keeps its sides, which makes it one operation everywhere.
    """

    def __init__(self, network: nn.Module, choices: Choices, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.normalization = Normalization(mean, std) if choices.input == LEVEL_INPUT else nn.Identity()
        self.features = network.get_submodule("features")
        self.classifier = network.get_submodule("classifier.1")
        self.activation = nn.Softmax(dim=1) if choices.softmax else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(self.normalization(images))  # [N, head_channels, S/32, S/32]
        x = x.mean((2, 3), keepdim=True).flatten(1)
        outputs: Tensor = self.activation(self.classifier(x))
        return outputs


class Normalization(nn.Module):
    """uint8 levels [N, S, S, 3] -> float32 [N, 3, S, S]: (level / 255 - mean) / std."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        means, stds = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (mean, std))
        self.scale = nn.Buffer((1 / (255 * stds)).float())
        self.shift = nn.Buffer((means / stds).float())

    def forward(self, levels: Tensor) -> Tensor:
        return levels.permute(0, 3, 1, 2).float() * self.scale - self.shift


def plain_network(
    trained: nn.Module, choices: Choices, image_size: int, mean: list[float], std: list[float]
) -> PlainNetwork:
    """A copy of a trained network on the CPU, for images of this size; the network stays as it is."""
    return PlainNetwork(plain_copy(trained, image_size), choices, mean, std).eval()


def plain_copy(trained: nn.Module, image_size: int | None) -> nn.Module:
    """A copy of any network of ours of which only what PlainNetwork has is left; None: for images of all sizes.

    There TensorFlow's padding, which depends on the size, becomes the symmetric one of turned maps.
    """
    network = copy.deepcopy(trained).cpu().double().eval().requires_grad_(False)
    if image_size is None:
        turn_padding(network)
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        make_plain(sequence)
    if image_size is not None:
        pad_strided(network, image_size)
    return network.float().to(memory_format=torch.contiguous_format)


def make_plain(layers: nn.Sequential) -> None:
    """Fold the batch-norms of one nn.Sequential in place, in double precision, and make its ReLU6 that of torch."""
    kept: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and isinstance(kept[-1], nn.Conv2d):
            kept[-1] = fuse_conv_bn_eval(kept[-1], layer)
        else:
            kept.append(nn.ReLU6() if isinstance(layer, ReLU6) else layer)
    for name in list(dict(layers.named_children())):
        delattr(layers, name)
    layers.extend(kept)


def pad_strided(network: nn.Module, image_size: int) -> None:
    """Make the convolutions with a stride, in place, plain ones that pad maps of known sides.

    Where a side is odd, TensorFlow's padding is the symmetric one.
    """
    size = image_size
    for name, layer in list(network.named_modules()):
        if not isinstance(layer, StridedConv2d):
            continue
        pads_below = layer.pads_same and size % 2 == 0
        plain = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            3,
            2,
            0 if pads_below else 1,
            groups=layer.groups,
            dtype=torch.float64,
        ).requires_grad_(False)
        plain.load_state_dict(layer.state_dict())
        network.set_submodule(name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), plain) if pads_below else plain)
        size = (size + 1) // 2
