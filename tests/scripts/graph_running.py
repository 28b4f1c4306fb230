# SPDX-License-Identifier: Apache-2.0
"""Computing what a Graph of scripts/converting/graphs.py says, as its words are meant, with torch's functions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from converting.graphs import Graph, Operation


def run_graph(graph: Graph, images: Tensor) -> Tensor:
    """images [N, 3, H, W], as the network takes them -> [N, classes]."""
    values = {graph.input: images}
    for operation in graph.operations:
        inputs = [values[name] for name in operation.inputs]
        values[operation.output] = RULES[operation.kind](operation.tensors, operation.settings, *inputs)
    return values[graph.output]


def kinds_of(graph: Graph) -> list[str]:
    return [operation.kind for operation in graph.operations]


def only(graph: Graph, kind: str) -> Operation:
    (operation,) = (operation for operation in graph.operations if operation.kind == kind)
    return operation


def convolve(tensors: dict[str, Tensor], settings: dict[str, Any], value: Tensor) -> Tensor:
    stride, dilation, groups = settings["stride"], settings["dilation"], settings["groups"]
    padding = settings["padding"]
    if padding == "same":
        kernel = tensors["weight"].shape[2:]
        sides = []
        for axis in (0, 1):
            size = value.shape[2 + axis]
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            total = max((-(-size // stride[axis]) - 1) * stride[axis] + reach - size, 0)
            sides.append((total // 2, total - total // 2))
        padding = (*sides[0], *sides[1])
    top, bottom, left, right = padding
    padded = F.pad(value, (left, right, top, bottom))
    return F.conv2d(padded, tensors["weight"], tensors.get("bias"), stride, 0, dilation, groups)


def normalise(tensors: dict[str, Tensor], settings: dict[str, Any], value: Tensor) -> Tensor:
    return F.batch_norm(
        value,
        tensors["running_mean"],
        tensors["running_var"],
        tensors["weight"],
        tensors["bias"],
        eps=settings["eps"],
    )


def pad(tensors: dict[str, Tensor], settings: dict[str, Any], value: Tensor) -> Tensor:
    top, bottom, left, right = settings["padding"]
    return F.pad(value, (left, right, top, bottom))


def scale(tensors: dict[str, Tensor], settings: dict[str, Any], value: Tensor) -> Tensor:
    shape = [-1] + [1] * (value.dim() - 2)
    return value * tensors["factor"].reshape(shape) + tensors["shift"].reshape(shape)


RULES: dict[str, Callable[..., Tensor]] = {
    "convolution": convolve,
    "batch-norm": normalise,
    "relu6": lambda tensors, settings, value: value.clamp(0, 6),
    "add": lambda tensors, settings, first, second: first + second,
    "pad": pad,
    "mean": lambda tensors, settings, value: value.mean((2, 3)),
    "linear": lambda tensors, settings, value: F.linear(value.flatten(1), tensors["weight"], tensors.get("bias")),
    "softmax": lambda tensors, settings, value: torch.softmax(value.flatten(1), 1),
    "sigmoid": lambda tensors, settings, value: torch.sigmoid(value),
    "scale": scale,
    "nothing": lambda tensors, settings, value: value,
}
