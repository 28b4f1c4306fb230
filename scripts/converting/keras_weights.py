# SPDX-License-Identifier: Apache-2.0
"""Where Keras' files have the weights of a layer, and what they are in torch's names and shapes."""

import re
from collections import defaultdict
from typing import Protocol

from torch import Tensor

from converting.hdf5_files import Contents
from converting.keras_models import KerasLayer

# What torch calls the weights of a layer.
PARTS = {
    **{"kernel": "weight", "depthwise_kernel": "weight", "bias": "bias"},
    **{"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"},
}
# The weights of .weights.h5 and .keras have numbers for names: in these orders.
ORDERS = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "dense"), ("kernel", "bias")),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}


class Weights(Protocol):
    """The weights of a file, by layers."""

    def of(self, layer: KerasLayer, names: list[str]) -> dict[str, Tensor]:
        """Those of a layer, by Keras' names, given in Keras' order. Raises: ValueError if they are not there."""


class LegacyWeights:
    """Those of .h5: model_weights/<layer of the outermost model>/.../<layer>/<name>:0, without the :0 in Keras 3."""

    def __init__(self, contents: Contents) -> None:
        self.found: dict[tuple[str, str, str], list[Tensor]] = defaultdict(list)
        for path, array in contents.arrays.items():
            root, _, rest = path.partition("/")
            if root == "model_weights" and rest.count("/") >= 2:
                top, _, inside = rest.partition("/")
                *_, layer, name = inside.split("/")
                self.found[top, layer, plain_name(name)].append(array)

    def of(self, layer: KerasLayer, names: list[str]) -> dict[str, Tensor]:
        found = {name: self.found[layer.place[0], layer.place[-1], name] for name in names}
        for name, arrays in found.items():
            if len(arrays) != 1:
                raise ValueError(
                    f"its layer {layer.place[-1][:80]!r} has {len(arrays)} arrays of the name {name}, not one"
                )
        return {name: arrays[0] for name, arrays in found.items()}


class SavedWeights:
    """Those of .keras: layers/<group>/layers/<group>/vars/<number>; early versions called the first word otherwise."""

    def __init__(self, contents: Contents) -> None:
        self.arrays = {
            path.replace("_layer_checkpoint_dependencies", "layers"): a for path, a in contents.arrays.items()
        }

    def of(self, layer: KerasLayer, names: list[str]) -> dict[str, Tensor]:
        start = "/".join(f"layers/{group}" for group in layer.groups)
        paths = {name: f"{start}/vars/{number}" for number, name in enumerate(names)}
        if missing := [path for path in paths.values() if path not in self.arrays]:
            raise ValueError(f"its layer {layer.place[-1][:80]!r} has no weights: {missing[0][:80]!r} is not there")
        return {name: self.arrays[path] for name, path in paths.items()}


def plain_name(name: str) -> str:
    return name.partition(":")[0].replace("depthwise_kernel", "kernel")


def to_torch(kernel: Tensor, is_depthwise: bool) -> Tensor:
    """A kernel in torch's order of axes."""
    if kernel.ndim == 2:
        return kernel.T.contiguous()
    if is_depthwise:
        height, width = kernel.shape[:2]
        return kernel.reshape(height, width, -1).permute(2, 0, 1).unsqueeze(1).contiguous()
    return kernel.permute(3, 2, 0, 1).contiguous()


def state_dict_of(contents: Contents) -> dict[str, Tensor]:
    """The weights of a file that holds nothing else, as a state dict of torch has them, in the order of the layers."""
    layers = contents.attributes.get("", {}).get("layer_names")
    if layers is None:
        named = {**numbered_names(contents)}
    else:
        lists = {layer: contents.attributes.get(layer, {}).get("weight_names", []) for layer in layers}
        named = {name.removesuffix(":0"): f"{layer}/{name}" for layer, names in lists.items() for name in names}
    weights = {}
    for name, path in named.items():
        array, (layer, _, part) = contents.arrays[path], name.rpartition("/")
        if part not in PARTS:
            raise ValueError(f"its weight {name[:80]!r} is none of a convolution, batch-norm or classifier")
        if PARTS[part] == "weight" and array.ndim in (2, 4):
            array = to_torch(array, is_depthwise=array.shape[0] > 1 and array.shape[-1] == 1)
        weights[f"{layer.replace('.', '_').replace('/', '.')}.{PARTS[part]}"] = array
    return weights


def numbered_names(contents: Contents) -> dict[str, str]:
    """The arrays of a .weights.h5 by names that say what they are: layers/conv2d_3/vars/0 is conv2d_3/kernel.

    The first group of a kind, which has no number, gets the number 0.
    """
    named = {}
    for path in contents.arrays:
        *groups, _, place = [
            word for word in path.split("/") if word not in ("layers", "_layer_checkpoint_dependencies")
        ]
        kind, number = re.findall(r"^(.+?)(?:_(\d+))?$", groups[-1] if groups else "?")[0]
        order = ORDERS.get(kind, ())
        if not place.isdecimal() or int(place) >= len(order):
            raise ValueError(f"its array {path[:80]!r} is none of a convolution, batch-norm or classifier")
        named["/".join((*groups[:-1], f"{kind}_{number or 0}", order[int(place)]))] = path
    return named
