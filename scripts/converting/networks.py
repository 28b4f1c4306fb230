# SPDX-License-Identifier: Apache-2.0
"""Finding a MobileNetV2 in a checkpoint, and making ours with its weights."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from converting.facts import Facts
from converting.layers import Layer, add_batch_norm, count_known, group_layers
from converting.ordering import NUM_LAYERS, order_network
from core.network_weights import load_weights
from model import TORCHVISION, Definition, MobileNetV2

AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)")
MAX_NESTING = 4  # dictionaries in dictionaries; a Lightning file has the states of its callbacks in the third
MAX_NAME_LENGTH = 200
MANY_NAMES = 8  # of a dictionary; more are shown as first .. last


class Found(NamedTuple):
    """A MobileNetV2 in a file."""

    origin: str  # the keys that lead to its dictionary, "" for the file itself
    layers: list[Layer]  # in the order of the network
    width: float
    doubt: str = ""  # what only the order in the file told, "" if the names told all
    facts: Facts = Facts()

    def __str__(self) -> str:
        return f"{self.origin}.{self.layers[0].name}".removeprefix(".")

    @property
    def num_classes(self) -> int:
        return len(self.layers[-1].tensors["weight"])

    def with_classifier(self, change: Callable[[Tensor], Tensor], note: str) -> Self:
        """The network with weight and bias of its classifier changed, and what is to be said of that."""
        *layers, classifier = self.layers
        tensors = {part: change(tensor) for part, tensor in classifier.tensors.items()}
        facts = self.facts._replace(notes=(*self.facts.notes, note))
        return self._replace(layers=[*layers, classifier._replace(tensors=tensors)], facts=facts)


def find_network(checkpoint: dict[str, Any], path: Path) -> tuple[Found, list[str]]:
    """The MobileNetV2 of a checkpoint, and the names of the tensors that are no part of it.

    Raises: ValueError with the first difference if there is none, and with both names if two have equal rank.
    """
    dictionaries, folded = [], set[str]()  # those without batch-norm
    for origin, weights in dictionaries_in(checkpoint, "", set()):
        check_names(weights, path)
        dictionaries.append((origin, add_batch_norm(weights)))
        folded |= {origin} if dictionaries[-1][1] is not weights else set()
    if not dictionaries:
        raise ValueError(f"{path}: holds no tensors")
    networks = []
    for origin, weights in dictionaries:
        layers = group_layers(weights)
        groups = split_networks(layers, 0)
        if sum(map(count_known, groups)) == count_known(layers):  # else what is in no group may be a head after it
            with contextlib.suppress(ValueError):
                networks += [Found(origin, *order_network(group, path)) for group in groups]
    if not networks:
        _, most = max(dictionaries, key=lambda pair: len(pair[1]))
        order_network(group_layers(most), path)  # which tells the first difference
    best, *others = sorted(networks, key=rank)
    if others and rank(best) == rank(others[0]):
        raise ValueError(
            f"{path}: has two networks, {best}... and {others[0]}...; save the state_dict() of the one that you want"
        )
    used = {f"{layer.name}.{part}".removeprefix(".") for layer in best.layers for part in layer.tensors}
    best = best._replace(facts=Facts(is_folded=best.origin in folded))
    return best, list_left_out(dictionaries, best.origin, used)


def dictionaries_in(value: dict[Any, Any], origin: str, seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The dictionaries of a checkpoint that hold tensors, under the keys that lead to them; no optimizer's."""
    seen.add(id(value))
    tensors = {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)}
    if tensors:
        yield origin, tensors
    for key, item in value.items():
        is_new = isinstance(item, dict) and id(item) not in seen and origin.count(".") + 1 < MAX_NESTING
        if is_new and isinstance(key, str) and "optim" not in key.lower():
            shown = re.sub(r"[^ -~]|\.", "?", key)[:80]
            yield from dictionaries_in(item, f"{origin}.{shown}".removeprefix("."), seen)


def check_names(weights: dict[str, Tensor], path: Path) -> None:
    """Raise ValueError for a name that no module has."""
    for name in weights:
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise ValueError(f"{path}: {name[:80]!r}... is too long or unprintable for a name; do not use this file")


def split_networks(layers: list[Layer], depth: int) -> list[list[Layer]]:
    """The groups of layers, by how their names begin, that hold as many as a network has; `depth`: of the recursion."""
    count = count_known(layers)
    if count <= NUM_LAYERS:
        return [layers] if count == NUM_LAYERS else []
    children: dict[str, list[Layer]] = {}
    for layer in layers:
        children.setdefault("".join(layer.parts[depth : depth + 1]), []).append(layer)
    networks, rest = [], []
    for child in children.values():
        inside = split_networks(child, depth + 1)
        networks += inside
        rest += [] if inside else child
    return networks + ([rest] if count_known(rest) == NUM_LAYERS else [])


def rank(network: Found) -> int:
    """Which network of several is taken: that of the lowest rank."""
    if AVERAGED.search(str(network)):
        return 0
    keys = ("state_dict", "model")
    first = network.origin.partition(".")[0]
    return 1 + (keys.index(first) if first in keys else len(keys))


def list_left_out(dictionaries: list[tuple[str, dict[str, Tensor]]], origin: str, used: set[str]) -> list[str]:
    """The names of the tensors but for those used in the dictionary `origin`; of many in one, the first and last."""
    left_out = []
    for place, weights in dictionaries:
        names = [f"{place}.{name}".removeprefix(".") for name in weights if place != origin or name not in used]
        many = [f"{names[0]} .. {names[-1]} ({len(names)} tensors)"] if len(names) > MANY_NAMES else names
        left_out += many
    return left_out


def definition_of(found: Found) -> Definition:
    """What the weights belong to: as the file says, else as in PyTorch's networks."""
    padding, eps = found.facts.model_padding, found.facts.model_batch_norm_eps
    return Definition(padding or TORCHVISION.padding, eps or TORCHVISION.batch_norm_eps)


def build_network(found: Found, path: Path) -> MobileNetV2:
    """The network with the weights of a file, in float32. Raises: ValueError for values that cannot be weights."""
    network = MobileNetV2(found.num_classes, found.width, definition=definition_of(found)).eval()
    weights = {}
    for layer, wanted in zip(found.layers, group_layers(network.state_dict()), strict=True):
        for part, own in wanted.tensors.items():
            tensor = layer.tensors.get(part, torch.zeros_like(own))  # old files do not count batches
            is_usable = tensor.is_floating_point() or not own.is_floating_point()
            if not (is_usable and tensor.to(torch.float32).isfinite().all()):
                reason = "values that are not finite" if is_usable else f"values of {tensor.dtype}"
                raise ValueError(f"{path}: {layer.name}.{part} has {reason}; get the file again")
            weights[f"{wanted.name}.{part}"] = tensor.to(own.dtype).reshape(own.shape)
    load_weights(network, weights, path)
    return network
