# SPDX-License-Identifier: Apache-2.0
"""The model that a Keras file describes: its layers in an order in which they can be run, and what each takes."""

import graphlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

MODELS = ("Functional", "Model", "Sequential")  # what holds layers; Keras 2 called the first "Model" at first
GROUPS = {  # what Keras calls the group of the weights of a layer, without the number; the others have none
    **{"Conv2D": "conv2d", "DepthwiseConv2D": "depthwise_conv2d", "BatchNormalization": "batch_normalization"},
    **{"Dense": "dense", "Normalization": "normalization"},
    **{"Functional": "functional", "Model": "functional", "Sequential": "sequential"},
}
Numbers = tuple[float, ...]
MOST_LAYERS, MOST_NESTING, MOST_LETTERS = 5000, 20, 200


class KerasLayer(NamedTuple):
    """One layer, or one operation, of a model or of a model in it."""

    kind: str  # its class in Keras
    place: tuple[str, ...]  # the names of the models that it is in, and its own
    groups: tuple[str, ...]  # the groups in which .keras files have its weights
    settings: dict[str, Any]
    inputs: tuple[str, ...]  # values: "/".join(place) of the layers that make them
    constants: tuple[Numbers, ...]  # what it is given beside them
    tensor_first: bool  # whether the first of what it is given is a value

    @property
    def output(self) -> str:
        return "/".join(self.place)


class KerasModel(NamedTuple):
    layers: list[KerasLayer]
    input: str
    output: str


def read_model(config: Any) -> KerasModel:
    """The model of a configuration, with those nested in it, as one list of layers.

    Raises: ValueError for what cannot be described so: code of its own, layers used twice, several inputs or outputs.
    """
    if not isinstance(config, dict) or config.get("class_name") not in MODELS:
        name = config.get("class_name") if isinstance(config, dict) else config
        raise ValueError(
            f"it is a {str(name)[:80]!r}, whose program is not in the file; MobileNetV2 as Functional is read"
        )
    layers = list(itertools.islice(layers_of(config, (), (), ()), MOST_LAYERS + 1))
    if len(layers) > MOST_LAYERS:
        raise ValueError(f"it has more than {MOST_LAYERS} layers")
    inputs = [layer for layer in layers if layer.kind == "InputLayer" and not layer.inputs]
    if len(inputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs, and MobileNetV2 one")
    return KerasModel(layers[:-1], inputs[0].output, layers[-1].inputs[0])


def layers_of(
    model: dict[str, Any], place: tuple[str, ...], groups: tuple[str, ...], outer: tuple[str, ...]
) -> Iterator[KerasLayer]:
    """The layers of a model in an order in which they can be run; the last one, "Output", passes on what it gives.

    `outer`: the value that it is called with, none for the outermost.
    """
    if len(place) > MOST_NESTING:
        raise ValueError("its models are nested too deep")
    config = model["config"]
    entries = {name_of(entry): entry for entry in (config["layers"] if isinstance(config, dict) else config)}
    calls = chained(entries) if model["class_name"] == "Sequential" else {n: call_of(e) for n, e in entries.items()}
    group_names = number_groups(entries)
    for name in ordered(calls):
        if name not in entries:
            raise ValueError(f"its layer {name[:80]!r} is used and not there")
        kind, call = str(entries[name]["class_name"]), calls[name]
        check_layer(name, entries[name])
        inputs = outer if kind == "InputLayer" else tuple("/".join((*place, source)) for source in call.names)
        inside, within = (*place, name), (*groups, group_names[name])
        if kind in MODELS:
            if len(inputs) != 1:
                raise ValueError(f"its model {name[:80]!r} is called with {len(inputs)} values, not with one")
            yield from layers_of(entries[name], inside, within, inputs)
        else:
            settings = entries[name]["config"]
            yield KerasLayer(kind, inside, within, settings, inputs, call.constants, call.tensor_first)
    last = [name for name in calls][-1] if model["class_name"] == "Sequential" else output_name(config)
    yield KerasLayer("Output", place, (), {}, ("/".join((*place, last)),), (), True)


class Call(NamedTuple):
    """What a layer is called with."""

    names: tuple[str, ...]  # of the layers of its model that make the values
    constants: tuple[Numbers, ...] = ()
    tensor_first: bool = True


def ordered(calls: dict[str, Call]) -> list[str]:
    """The layers, each after those that it takes values of. Raises: ValueError if one takes what depends on itself."""
    try:
        return list(graphlib.TopologicalSorter({name: call.names for name, call in calls.items()}).static_order())
    except graphlib.CycleError as error:
        raise ValueError(f"its layer {error.args[1][0][:80]!r} takes a value that depends on its own") from error


def chained(entries: dict[str, dict[str, Any]]) -> dict[str, Call]:
    """The layers of a Sequential, each after the one before; an input in front, which some files leave out."""
    if not entries:
        raise ValueError("it has a model without layers")
    if next(iter(entries.values()))["class_name"] != "InputLayer":
        shape = next(iter(entries.values()))["config"].get("batch_input_shape")
        others = dict(entries)
        entries.clear()
        entries |= {"input of the model": {"class_name": "InputLayer", "config": {"batch_shape": shape}}} | others
    names = list(entries)
    return {name: Call((names[place - 1],) if place else ()) for place, name in enumerate(names)}


def call_of(entry: dict[str, Any]) -> Call:
    """How a layer of a Functional model is called; Keras 2 and Keras 3 write that down in different words."""
    nodes = entry.get("inbound_nodes", [])
    if len(nodes) > 1:
        raise ValueError(f"its layer {name_of(entry)[:80]!r} is used {len(nodes)} times, in MobileNetV2 each once")
    given = list(given_to(nodes[0]) if nodes else ())
    names = tuple(item for item in given if isinstance(item, str))
    constants = tuple(item for item in given if not isinstance(item, str))
    return Call(names, constants, bool(names) and isinstance(given[0], str))


def given_to(node: Any) -> Iterator[str | Numbers]:
    """The numbers, and the names of the layers whose values, a layer is called with."""
    given: list[Any] = []
    if isinstance(node, dict):  # Keras 3
        for item in flat([node["args"], list(node.get("kwargs", {}).values())]):
            given += [read_object(item) if isinstance(item, dict) else item] if not isinstance(item, str) else []
    else:  # Keras 2: the call itself, or the calls for several values
        for name, _, constant, words in [node] if isinstance(node[0], str) else node:
            given.append(constant if name == "_CONSTANT_VALUE" else name)
            values = [word for word in words.values() if not isinstance(word, str)]
            given += [word[0] if isinstance(word, list) and word else word for word in values]
    for item in given:
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            yield (float(item),)
        elif isinstance(item, (str, tuple)):
            yield item


def read_object(item: dict[str, Any]) -> str | Numbers | None:
    """What Keras 3 writes for a value, or for a constant of several numbers; None for other things."""
    if item["class_name"] == "__keras_tensor__":
        return str(item["config"]["keras_history"][0])
    if item["class_name"] in ("__tensor__", "__numpy__"):
        return tuple(float(number) for number in flat([item["config"]["value"]]))
    return None


def flat(items: list[Any]) -> Iterator[Any]:
    """The values in lists in lists."""
    for item in items:
        if isinstance(item, list):
            yield from flat(item)
        else:
            yield item


def number_groups(entries: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The group of the weights of each layer: dense, dense_1, ... as they come."""
    counts: dict[str, int] = {}
    names = {}
    for name, entry in entries.items():
        group = GROUPS.get(str(entry["class_name"]), "")
        number = counts[group] = counts.get(group, -1) + 1
        names[name] = f"{group}_{number}" if number else group
    return names


def check_layer(name: str, entry: dict[str, Any]) -> None:
    """Raise ValueError for a layer that is code."""
    kind, module = str(entry["class_name"]), str(entry.get("module") or "keras")
    own = str(entry.get("registered_name") or kind)
    if kind == "Lambda":
        raise ValueError(f"its layer {name[:80]!r} is a Lambda, which is code; code in a file is never run")
    if ">" in own or not is_of_keras(module):
        what = own if ">" in own else module
        raise ValueError(f"its layer {name[:80]!r} is of its author's own program, {what[:80]!r}, not of Keras")
    function = entry["config"].get("activation") if isinstance(entry["config"], dict) else None
    if isinstance(function, dict) and not is_of_keras(str(function.get("module") or "keras")):
        raise ValueError(
            f"its layer {name[:80]!r} has a function of its author's own program, which is not in the file"
        )


def is_of_keras(module: str) -> bool:
    return module.partition(".")[0] in ("keras", "tf_keras")


def name_of(entry: dict[str, Any]) -> str:
    """The name of a layer. Raises: ValueError for one that would take much memory in the places that have it."""
    name = str(entry.get("name") or entry["config"]["name"])
    if len(name) > MOST_LETTERS:
        raise ValueError(f"the name of its layer {name[:20]!r}... has {len(name):,} letters")
    return name


def output_name(config: dict[str, Any]) -> str:
    """The layer whose value a Functional model gives. Raises: ValueError if there are several."""
    names = [item for item in flat([config["output_layers"]]) if isinstance(item, str)]
    if len(names) != 1:
        raise ValueError(f"it has {len(names)} outputs, and MobileNetV2 one")
    return names[0]
