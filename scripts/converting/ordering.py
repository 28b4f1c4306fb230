# SPDX-License-Identifier: Apache-2.0
"""Putting the layers of a file into the order of the network, by the rules at the head of convert_weights.py."""

import itertools
import re
from collections import Counter
from pathlib import Path

from converting.layers import OTHER, Layer, network_layers

PUBLISHED_WIDTHS = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35, 0.25, 0.1)
WIDTHS = tuple(dict.fromkeys((*PUBLISHED_WIDTHS, *(round(0.05 * step, 2) for step in range(1, 41)))))
NUM_LAYERS = 105  # 52 convolutions, each with its batch-norm, and the classifier


def order_network(layers: list[Layer], path: Path) -> tuple[list[Layer], float, str]:
    """The layers of a network in their order, its width, and the doubt of order_layers().

    Raises: ValueError, as order_layers(), and for a layer that only another network has.
    """
    known = [layer for layer in layers if layer.kind != OTHER]
    depth, parts = network_parts(known)
    for layer in layers:
        # Beside the parts stand the buffers of metrics, the weights of a loss, the counter of an average.
        is_beside = tuple(layer.parts[:depth]) not in parts and not {"weight", "bias"} <= layer.tensors.keys()
        if layer.kind == OTHER and (len(known) < NUM_LAYERS or not is_beside):
            tensors = ", ".join(f"{part} {list(tensor.shape)}" for part, tensor in list(layer.tensors.items())[:5])
            raise ValueError(
                f"{path}: {layer.name!r} has {tensors[:200]}: no convolution without bias, batch-norm or classifier, "
                "which are all that MobileNetV2 has"
            )
    width = infer_width(known)
    ordered, doubt = order_layers(known, network_layers(width), f"{path}: width {width}")
    return ordered, width, doubt


def network_parts(layers: list[Layer]) -> tuple[int, set[tuple[str, ...]]]:
    """The beginnings of names that tell the uppermost parts of a network, and of how many words they are."""
    together = zip(*(layer.parts for layer in layers), strict=False)
    depth = 1 + sum(1 for _ in itertools.takewhile(lambda words: len(set(words)) == 1, together))
    return depth, {tuple(layer.parts[:depth]) for layer in layers}


def infer_width(layers: list[Layer]) -> float:
    """The width whose convolutions have exactly the shapes of these; the nearest one if there is none."""
    found = count_convolutions(layers)

    def distance(width: float) -> int:
        wanted = count_convolutions(network_layers(width))
        return ((found - wanted) + (wanted - found)).total()

    exact = (width for width in WIDTHS if distance(width) == 0)  # most often the first: each takes a network
    return next(exact, None) or min(widths_around(sorted(WIDTHS, key=distance)[:2]), key=distance)


def widths_around(nearest: list[float]) -> list[float]:
    """Those up to 0.05 from these in steps of 0.005; first those of WIDTHS and of an eighth, which people take."""
    steps = {round(200 * width) + step for width in nearest for step in range(-10, 11)}
    return sorted(
        (step / 200 for step in steps if step > 0), key=lambda width: (width not in WIDTHS, width * 8 % 1 != 0, width)
    )


def count_convolutions(layers: list[Layer]) -> Counter[tuple[int, ...]]:
    return Counter(tuple(layer.shape) for layer in layers if layer.kind == "convolution")


def order_layers(layers: list[Layer], wanted: list[Layer], context: str) -> tuple[list[Layer], str]:
    """Put the layers of a file, given in the order in which it holds them, into the order of the network.

    Returns with them what only the order in the file told, "" if the names told all.
    Raises: ValueError, which begins with `context`, at the first layer that has no place or more than one.
    """
    places = {layer.name: place for place, layer in enumerate(layers)}
    remaining, ordered, doubt = list(layers), list[Layer](), ""
    for slot in wanted:
        next_ones = next_layers(remaining, ordered[-1].parts if ordered else [])
        next_ones.sort(key=lambda layer: places[layer.name])
        fitting = [layer for layer in next_ones if fits(layer, slot)]
        if not fitting:
            first: Layer | str = next_ones[0] if next_ones else "nothing left"
            found = next((layer for layer in next_ones if layer.kind == slot.kind), first)
            raise ValueError(f"{context}: the file has {found} where the network has {slot}; this is another network")
        if len(fitting) > 1 and not doubt:
            doubt = f"{fitting[0]} and {fitting[1]} both fit {slot}"
        ordered.append(fitting[0])
        remaining.remove(fitting[0])
    if remaining:
        raise ValueError(f"{context}: the file also has {remaining[0]}; this is another network")
    is_order_telling = is_deliberate(layers) and all(map(fits, layers, wanted))
    if is_order_telling and ordered != layers:
        doubt = "the numbers in the names contradict the order in the file"
    if doubt and not (is_order_telling and ordered == layers):
        raise ValueError(
            f"{context}: {doubt}, and nothing tells which is right; save the state_dict() of the original network with "
            "torch.save()"
        )
    return ordered, doubt


def is_deliberate(layers: list[Layer]) -> bool:
    """Whether the order in the file can be the one of the network: a sorted one says nothing."""
    names = [f"{layer.name}." for layer in layers]
    return names != sorted(names)


def fits(found: Layer, wanted: Layer) -> bool:
    """Whether a layer of a file can stand for one of the network; the number of classes is the file's."""
    if found.kind == wanted.kind == "classifier":
        return found.shape[1] == wanted.shape[1]
    return found.kind == wanted.kind and found.shape == wanted.shape


def next_layers(remaining: list[Layer], last: list[str]) -> list[Layer]:
    """Which of the remaining layers may follow the one named `last`: rules 1 to 3 at the head of this file."""
    for depth in range(len(last), -1, -1):
        group = [layer for layer in remaining if layer.parts[:depth] == last[:depth]]
        if group:
            return first_layers(group, depth)
    return []


def first_layers(group: list[Layer], depth: int) -> list[Layer]:
    """The layers of a group that may come first in it; their names agree in `depth` parts."""
    if len(group) == 1:
        return group
    children: dict[str, list[Layer]] = {}
    for layer in group:
        children.setdefault("".join(layer.parts[depth : depth + 1]), []).append(layer)
    lowest: dict[str, list[int]] = {}
    for part in children:
        wording, numbers = split_numbers(part)
        lowest[wording] = min(lowest.get(wording, numbers), numbers)
    first = []
    for part, child in children.items():
        wording, numbers = split_numbers(part)
        if numbers == lowest[wording]:
            starts = first_layers(child, depth + 1)
            has_convolution = any(layer.kind == "convolution" for layer in child)
            first += [layer for layer in starts if layer.kind == "convolution" or not has_convolution]
    return first


def split_numbers(part: str) -> tuple[str, list[int]]:
    """A part of a name without its numbers, and the numbers: "bn1" -> ("bn#", [1])."""
    return re.sub(r"\d+", "#", part), [int(digits) for digits in re.findall(r"\d+", part)]
