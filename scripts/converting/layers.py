# SPDX-License-Identifier: Apache-2.0
"""The layers of a state dict: what each is, by the names and shapes of its tensors."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from model import TORCHVISION, MobileNetV2

NORM_PARTS = {"weight", "bias", "running_mean", "running_var"}
EPS = TORCHVISION.batch_norm_eps
OTHER = "other"  # the kind of layers that MobileNetV2 does not have


class Layer(NamedTuple):
    """The tensors that belong to one module."""

    name: str
    kind: str  # "convolution", "batch-norm", "classifier" or OTHER
    tensors: dict[str, Tensor]  # by the last part of their names

    @property
    def shape(self) -> list[int]:
        return list(self.tensors["weight"].shape)

    @property
    def parts(self) -> list[str]:
        return self.name.split(".")

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.shape}"


def add_batch_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without any batch-norm, with one that only adds in place of the bias of each convolution."""
    if any(name.endswith(".running_var") for name in weights):
        return weights
    added: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        layer, _, part = name.rpartition(".")
        kernel = weights.get(f"{layer}.weight")
        is_shift = part == "bias" and kernel is not None and kernel.ndim == 4 and tensor.shape == kernel.shape[:1]
        if is_shift:
            added |= {f"{layer}.norm.{other}": values for other, values in passing_batch_norm(tensor).items()}
        else:
            added[name] = tensor
    return added


def passing_batch_norm(shift: Tensor, factor: Tensor | float = 1.0) -> dict[str, Tensor]:
    """A batch-norm with EPS that adds, and multiplies: what stands for one that was folded into its convolution."""
    ones = torch.ones(shift.shape)
    return {"weight": ones * factor * (1 + EPS) ** 0.5, "bias": shift, "running_mean": 0 * ones, "running_var": ones}


def count_known(layers: list[Layer]) -> int:
    return sum(layer.kind != OTHER for layer in layers)


def group_layers(weights: dict[str, Tensor]) -> list[Layer]:
    """The layers of a state dict, in the order in which it names them first."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        group, _, part = name.rpartition(".")
        groups.setdefault(group, {})[part] = tensor
    return [Layer(group, layer_kind(tensors), tensors) for group, tensors in groups.items()]


def layer_kind(tensors: dict[str, Tensor]) -> str:
    """What a module with these tensors is; OTHER for anything that MobileNetV2 does not have."""
    shapes = {part: tuple(tensor.shape) for part, tensor in tensors.items()}
    if shapes.pop("num_batches_tracked", ()) in ((), (1,)) and shapes.keys() == NORM_PARTS:
        return "batch-norm" if len(set(shapes.values())) == 1 and len(shapes["weight"]) == 1 else OTHER
    if tensors.keys() == {"weight"}:
        return "convolution" if len(shapes["weight"]) == 4 else OTHER
    is_linear = tensors.keys() == {"weight", "bias"} and shapes["weight"][2:] in ((), (1, 1))
    has_classes = is_linear and len(shapes["weight"]) >= 2 and shapes["weight"][:1] == shapes["bias"] > (0,)
    return "classifier" if has_classes else OTHER


@functools.cache
def network_layers(width: float) -> list[Layer]:
    """The layers of our network in their order, without values; its classifier has one class."""
    with torch.device("meta"):
        return group_layers(MobileNetV2(1, width).state_dict())
