# SPDX-License-Identifier: Apache-2.0
"""The layers of a network in training on the CPU, with routines of their own for maps of few pixels.

There the general ones of oneDNN take up to ten times as long as the products and sums that are left.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from model import InvertedResidual, StridedConv2d

aten = torch.ops.aten
# Pixels of a map up to which a 1 x 1 convolution is sooner done as one product of matrices.
# Measured for maps of 1 to 112 pixels a side in both precisions: on larger ones it takes as long, or longer. Not where
# it gives as many channels as there happen to be classes or boxes: for those of SSDLite a product took 0.3 to 1 times
# as long on maps of 5, 10 and 20 pixels a side, and once 1.08. Such layers are the ones with a bias.
LARGEST_PRODUCT = 8 * 8


def call_layers(layer: nn.Module, x: Tensor) -> Tensor:
    """What a block or a layer of a network gives in training but for rounding: [N, C, H, W] -> the same.

    Images and weights are in channels_last, and so are the gradients. Raises: ValueError as batch-norm, for one pixel.
    """
    if isinstance(layer, InvertedResidual):
        y = call_layers(layer.conv, x)
        return x + y if layer.has_skip else y
    if isinstance(layer, nn.Sequential):
        layers = list(layer)
        x, norm = call_layers(layers[0], x), layers[1]
        if type(norm) is nn.BatchNorm2d and isinstance(layers[-1], nn.ReLU6) and x.numel() > x.shape[1]:
            normed: Tensor = NormedReLU6.apply(x, norm.weight, norm.bias, norm)
            return normed
        for each in layers[1:]:
            x = call_layers(each, x)
        return x
    return convolve(x, layer) if isinstance(layer, nn.Conv2d) else cast(Tensor, layer(x))


def convolve(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """What a convolution of the network gives."""
    height, width = x.shape[2:]
    weight = layer.weight.permute(0, 2, 3, 1)  # as it lies in memory, where its gradient is to lie the same way
    if layer.kernel_size == (1, 1) and (height * width <= LARGEST_PRODUCT or layer.bias is not None):
        return nn.functional.linear(x.permute(0, 2, 3, 1), weight.flatten(1), layer.bias).permute(0, 3, 1, 2)
    if layer.groups > 1 and layer.dilation == (1, 1) and height == width <= 2:
        if isinstance(layer, StridedConv2d):  # which computes in the precision of its weights
            x = x.to(layer.weight.dtype)
        elif torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        kernel = weight.flatten(2).to(x.dtype)  # [C, 3, 3]
        if height == 1:  # the zeros around meet all of the kernel but its centre
            return x * kernel[:, 1:2, 1:2]
        if layer.stride == (1, 1):
            filtered: Tensor = Depthwise.apply(x, kernel)
            return filtered
        begin = 0 if cast(StridedConv2d, layer).pads_same else 1
        return (x * kernel[:, begin : begin + 2, begin : begin + 2]).sum((2, 3), keepdim=True)
    return cast(Tensor, layer(x))


class NormedReLU6(torch.autograd.Function):
    """Batch-norm and ReLU6 of a map of more than one pixel. `norm`: the layer of which scale and shift are."""

    @staticmethod
    def forward(context: Any, x: Tensor, scale: Tensor, shift: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        cast(Tensor, norm.num_batches_tracked).add_(1)
        moving = norm.running_mean, norm.running_var
        y, mean, inverse_deviation = aten.native_batch_norm(x, scale, shift, *moving, True, norm.momentum, norm.eps)
        y.clamp_(0.0, 6.0)
        context.eps = norm.eps
        context.save_for_backward(x, y, scale, mean, inverse_deviation)
        return cast(Tensor, y)

    @staticmethod
    def backward(context: Any, *of_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, mean, inverse_deviation = context.saved_tensors
        of_normed = aten.hardtanh_backward(of_outputs[0], y, 0.0, 6.0)
        found = aten.native_batch_norm_backward(
            of_normed, x, scale, None, None, mean, inverse_deviation, True, context.eps, (True, True, True)
        )
        return *found, None


class Depthwise(torch.autograd.Function):
    """A depthwise 3 x 3 convolution of maps of 2 x 2 pixels: [N, C, 2, 2], kernel [C, 3, 3] -> [N, C, 2, 2]."""

    @staticmethod
    def forward(context: Any, x: Tensor, kernel: Tensor) -> Tensor:
        context.save_for_backward(x, kernel)
        return torch.conv2d(x, kernel[:, None], None, 1, 1, 1, len(kernel))

    @staticmethod
    def backward(context: Any, *of_outputs: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel = context.saved_tensors
        given, read = (each.permute(0, 2, 3, 1).flatten(1, 2) for each in (of_outputs[0], x))  # [N, 4, C]
        precise = torch.promote_types(x.dtype, torch.float32)
        products = (given[:, :, None] * read[:, None]).sum(0, dtype=precise)  # [4, 4, C]: of each given and each read
        taps = products.new_zeros(9, len(kernel)).index_add_(0, TAPS, products.flatten(0, 1))
        of_x = torch.conv2d(of_outputs[0], kernel[:, None].flip((2, 3)), None, 1, 1, 1, len(kernel))
        return of_x, taps.t().reshape(kernel.shape).to(kernel.dtype)


# Where in the kernel lies what a pixel that is given takes of one that is read: 2 x 2 of the one, 2 x 2 of the other.
TAPS = torch.tensor(
    [3 * (1 + r - row) + 1 + c - column for row in (0, 1) for column in (0, 1) for r in (0, 1) for c in (0, 1)]
)
