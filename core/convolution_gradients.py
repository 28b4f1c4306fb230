# SPDX-License-Identifier: Apache-2.0
"""What the convolutions of the network give on the CPU, and the gradients of that, by the routines that take least."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from model import StridedConv2d, pad_same

aten = torch.ops.aten


def convolve(x: Tensor, kernel: Tensor, layer: nn.Conv2d) -> Tensor:
    """What a layer gives, in the precision of x."""
    x = pad_same(x) if pads_same(layer) else x
    return torch.conv2d(x, kernel.to(x.dtype), None, layer.stride, layer.padding, layer.dilation, layer.groups)


def pads_same(layer: nn.Conv2d) -> bool:
    return isinstance(layer, StridedConv2d) and layer.pads_same


def gradients(gradient: Tensor, x: Tensor, kernel: Tensor, layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Of x and of the kernel, from that of convolve()."""
    height, width = x.shape[2:]
    padded = pad_same(x) if pads_same(layer) else x
    stride, rounded = layer.stride[0], kernel.to(x.dtype)
    turns = layer.groups > 1 and (stride == 1 or x.dtype == torch.bfloat16)
    geometry = stride, layer.padding, layer.dilation, layer.groups
    # oneDNN's gradient of a dilated kernel is wrong in bfloat16: findings/torch_bfloat16_dilated_depthwise.sh
    dtype = torch.float32 if layer.dilation > (1, 1) else x.dtype
    of_x, of_kernel = convolution_backward(
        gradient.to(dtype), padded.to(dtype), rounded.to(dtype), *geometry, wants_x=not turns
    )
    if turns:
        spread = spread_out(gradient, x, pads_same(layer)) if stride == 2 else gradient
        around = layer.dilation  # as many pixels as the turned kernel, 3 x 3, needs on every side
        of_x = torch.conv2d(spread, rounded.flip((2, 3)), None, 1, around, layer.dilation, layer.groups)
    elif padded is not x:
        of_x = of_x[:, :, height % 2 : height % 2 + height, width % 2 : width % 2 + width]
    return of_x, of_kernel.to(kernel.dtype)


def back_through_relu6(of_active: Tensor, active: Tensor) -> Tensor:
    """The gradient of what a ReLU6 reads, in the memory of that of what it gives, if that is laid out alike.

    The latter must be of no use any more. In bfloat16 it takes a fifth longer in place than into other memory, in
    float32 a quarter less.
    """
    if of_active.dtype != torch.float32 or of_active.stride() != active.stride():
        return cast(Tensor, aten.hardtanh_backward(of_active, active, 0.0, 6.0))
    return cast(Tensor, aten.hardtanh_backward.grad_input(of_active, active, 0.0, 6.0, grad_input=of_active))


def spread_out(gradient: Tensor, x: Tensor, pads_same: bool) -> Tensor:
    """What a depthwise 3 x 3 convolution with stride 2 gave, with zeros between: x has its gradient as of stride 1.

    In bfloat16 oneDNN takes ten times as long for the gradient itself.
    """
    # TensorFlow's padding begins with the first pixel where a side is even: there is none above and on the left.
    top, left = (int(pads_same and side % 2 == 0) for side in x.shape[2:])
    spread = torch.zeros_like(x)
    spread[:, :, top::2, left::2] = gradient
    return spread


def convolution_backward(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, padding: Any, dilation: Any, groups: int, wants_x: bool
) -> tuple[Any, Any]:
    """The gradients of x, or None, and of the kernel."""
    steps = (stride, stride), padding, dilation, False, (0, 0), groups
    of_x, of_kernel, _ = aten.convolution_backward(gradient, x, kernel, None, *steps, (wants_x, True, False))
    return of_x, of_kernel
