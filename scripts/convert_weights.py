# SPDX-License-Identifier: Apache-2.0
"""Turn anyone's MobileNetV2 checkpoint into a file that train.py, test.py and inference.py load.

    python3 scripts/convert_weights.py SOURCE TARGET [--mean R G B] [--std R G B] [--image-size PIXELS]

SOURCE is a .safetensors, a file of torch.save() (a bare state dict, or a checkpoint of Lightning or of any training
program) or a TorchScript archive, of torchvision, timm (mobilenetv2_035 to _140), d-li14, tonylins or of anyone whose
network has the layers of Table 2 of the paper. There is no table of names per project. The network is looked for in
all dictionaries of the file, but for an optimizer's. Of several an averaged one is taken, which has ema, swa or average
in its name, then one in `state_dict`, then one in `model`; two of equal rank are refused. What is no part of it is left
out and named. Its layers have one order, and names and shapes must leave exactly one way to put those of the file into
it:

1. layers whose names share a beginning ("blocks.3.1.") stay together;
2. names that differ only in numbers come in the order of the numbers, 2 before 10;
3. a group that holds convolutions begins with one;
4. every layer has the kind and the shape of the one that it stands for.

Where these leave a choice, the order in the file decides, if it fits all layers and is not the alphabet's, and a line
says so. Anything else is refused. Where batch-norm was folded into convolutions with a bias, one is added that passes
on what it gets: right for scoring, and scripts/unfold_batch_norm.py makes it fit for training. A file of weights does
not say how they are used: taken for granted are batch-norm with eps 1e-5, ReLU6 and symmetric padding, as in the
projects above (TensorFlow has eps 1e-3 and pads one side).
"""

from command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import contextlib
import functools
import itertools
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from command_line import OneLineParser, print_config_lines
from core.atomic_files import write_atomically
from core.network_weights import folded_layers, load_weights, stored_class_names, unfolding
from core.settings import SHARED_RULES, to_plain
from core.weights_files import TORCHSCRIPT, describe_damage, foreign_kind, plain_copy, read_checkpoint, verified_copy
from model import STAGES, MobileNetV2, Stage
from utils import user_errors

PUBLISHED_WIDTHS = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35, 0.25, 0.1)
WIDTHS = tuple(dict.fromkeys((*PUBLISHED_WIDTHS, *(round(0.05 * step, 2) for step in range(1, 41)))))
AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)")
MAX_NESTING = 4  # dictionaries in dictionaries; a Lightning file has the states of its callbacks in the third
MAX_NAME_LENGTH = 200
NORM_PARTS = {"weight", "bias", "running_mean", "running_var"}
EPS = 1e-5  # of batch-norm
OTHER = "other"  # the kind of layers that MobileNetV2 does not have
NUM_LAYERS = 105  # 52 convolutions, each with its batch-norm, and the classifier
MANY_NAMES = 8  # of a dictionary; more are shown as first .. last
IMAGENET = {
    "model_mean_parameters": [0.485, 0.456, 0.406],
    "model_std_parameters": [0.229, 0.224, 0.225],
    "image_size": 224,
}


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


class Found(NamedTuple):
    """A MobileNetV2 in a file."""

    origin: str  # the keys that lead to its dictionary, "" for the file itself
    layers: list[Layer]  # in the order of the network
    width: float
    doubt: str  # what only the order in the file told, "" if the names told all

    def __str__(self) -> str:
        return f"{self.origin}.{self.layers[0].name}".removeprefix(".")


def main() -> None:
    arguments = parse_arguments()
    source, target = arguments.source, arguments.target
    if os.path.lexists(target):
        raise ValueError(f"{target}: exists and stays as it is; remove it or name another file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; make it, or name a target in another one")
    checkpoint = read_source(source)
    found, left_out = find_network(checkpoint, source)
    network = build_network(found, source)
    num_classes = len(found.layers[-1].tensors["weight"])
    described = describe_use(arguments, checkpoint, num_classes) | {"model_width_mult": found.width}
    print_matches(source, found, num_classes)
    print_notes(found, left_out)
    check_logits(network, source)
    record = described | {"model_arch_name": "mobilenet_v2", "source": source.name, "state_dict": network.state_dict()}
    write_atomically(target, lambda file: torch.save(record, file))
    print(f"{target}: written{'' if 'class_names' in described else ', without class names'}.")
    described.pop("class_names", None)
    scored = {"mode": "test", "model_num_classes": num_classes, "model_weights_path": str(target)}
    print_config_lines("to test or classify", described | scored)
    if folded_layers(network.state_dict()):
        command = unfolding(target, "data/NAME/train", described)
        print(
            "\nIts batch-norm is folded into the convolutions, which is right for test.py and inference.py. "
            f"To fine-tune, start from what this makes:\n  {command}"
        )
    else:
        print_config_lines("to fine-tune", described | {"mode": "train", "pretrained_model_weights_path": str(target)})


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="file with the weights of a MobileNetV2, .safetensors or PyTorch's")
    parser.add_argument("target", type=Path, help="file to write, for example results/pretrained_models/mine.pth.tar")
    parser.add_argument(
        "--mean", type=float, nargs=3, help="of each RGB channel (default: what the file says, else ImageNet's)"
    )
    parser.add_argument(
        "--std", type=float, nargs=3, help="of each RGB channel (default: what the file says, else ImageNet's)"
    )
    parser.add_argument("--image-size", type=int, help="pixels, as it was trained (default: likewise, else 224)")
    arguments = parser.parse_args()
    arguments.given = {
        name: value
        for name, value in zip(IMAGENET, (arguments.mean, arguments.std, arguments.image_size), strict=True)
        if value is not None
    }
    for name, value in arguments.given.items():
        is_valid, expected = SHARED_RULES[name]
        if not is_valid(value):
            parser.error(f"{name} = {value}; expected {expected}")
    return arguments


def read_source(path: Path) -> dict[str, Any]:
    """Read a .safetensors, a file of torch.save() or a TorchScript archive, executing nothing in it.

    Raises: FileNotFoundError; ValueError naming the file if it is damaged or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name a file of weights")
    with path.open("rb") as file:
        is_script = foreign_kind(file) == (TORCHSCRIPT, "")
        start = file.read(9)
    if is_script:
        return read_script(path)
    if path.suffix != ".safetensors" and start[8:] != b"{":  # 8 bytes of length, then JSON
        return read_checkpoint(path)
    try:
        return plain_copy(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise ValueError(f"{path}: damaged or not a safetensors file ({reason}); get it again") from error


class ScriptObject(dict):
    """Stands for every class of a TorchScript archive: its attributes by their names."""

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.update(attributes)


def read_script(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by their full names; its program is not even read.

    Beside the program it is a file like that of torch.save(), with objects of the program's classes.
    Raises: ValueError naming the file.
    """
    try:
        with path.open("rb") as file:
            content = verified_copy(file, wanted=r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.data/.+)")
        names = torch.serialization.get_unsafe_globals_in_checkpoint(content)
        content.seek(0)
        allowed = [(ScriptObject, name) for name in names if name.startswith("__torch__.")]
        allowed += [(lambda value, *kind: value, name) for name in names if name.startswith("torch.jit._pickle.")]
        with torch.serialization.safe_globals(allowed):
            program = torch.load(content, map_location="cpu", weights_only=True)
        if not isinstance(program, ScriptObject):
            raise ValueError(f"it holds a {type(program).__name__}")
        return dict(tensors_in(plain_copy(program), "", set()))
    except Exception as error:  # a damaged file can raise almost anything
        reason = describe_damage(error)
        raise ValueError(f"{path}: damaged or no module of TorchScript ({reason}); save its state_dict()") from error


def tensors_in(module: dict[str, Any], start: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module and of the modules in it, each module once, with their names after `start`."""
    seen.add(id(module))
    for name, value in module.items():
        if isinstance(value, Tensor):
            yield f"{start}{name}", value
        elif isinstance(value, dict) and id(value) not in seen:
            yield from tensors_in(value, f"{start}{name}.", seen)


def find_network(checkpoint: dict[str, Any], path: Path) -> tuple[Found, list[str]]:
    """The MobileNetV2 of a checkpoint, and the names of the tensors that are no part of it.

    Raises: ValueError with the first difference if there is none, and with both names if two have equal rank.
    """
    dictionaries = []
    for origin, weights in dictionaries_in(checkpoint, "", set()):
        check_names(weights, path)
        dictionaries.append((origin, add_batch_norm(weights)))
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


def add_batch_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without any batch-norm, with one that only adds in place of the bias of each convolution."""
    if any(name.endswith(".running_var") for name in weights):
        return weights
    passing = {"weight": (1 + EPS) ** 0.5, "running_mean": 0.0, "running_var": 1.0}
    added = {}
    for name, tensor in weights.items():
        layer, _, part = name.rpartition(".")
        kernel = weights.get(f"{layer}.weight")
        is_shift = part == "bias" and kernel is not None and kernel.ndim == 4 and tensor.shape == kernel.shape[:1]
        if is_shift:
            added |= {f"{layer}.norm.{other}": torch.full(tensor.shape, value) for other, value in passing.items()}
        added[f"{layer}.norm.bias" if is_shift else name] = tensor
    return added


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


def count_known(layers: list[Layer]) -> int:
    return sum(layer.kind != OTHER for layer in layers)


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


def infer_width(layers: list[Layer]) -> float:
    """The width whose convolutions have exactly the shapes of these; the nearest one if there is none."""
    found = count_convolutions(layers)

    def distance(width: float) -> int:
        wanted = count_convolutions(network_layers(width))
        return ((found - wanted) + (wanted - found)).total()

    return min(WIDTHS, key=distance)


def count_convolutions(layers: list[Layer]) -> Counter[tuple[int, ...]]:
    return Counter(tuple(layer.shape) for layer in layers if layer.kind == "convolution")


def order_layers(layers: list[Layer], wanted: list[Layer], context: str) -> tuple[list[Layer], str]:
    """Put the layers of a file, given in the order in which it holds them, into the order of the network.

    Returns with them what only the order in the file told, "" if the names told all.
    Raises: ValueError, which begins with `context`, at the first layer that has no place or more than one.
    """
    places = {layer.name: place for place, layer in enumerate(layers)}
    remaining, ordered, doubt = list(layers), [], ""
    for slot in wanted:
        next_ones = next_layers(remaining, ordered[-1].parts if ordered else [])
        next_ones.sort(key=lambda layer: places[layer.name])
        fitting = [layer for layer in next_ones if fits(layer, slot)]
        if not fitting:
            found = next((layer for layer in next_ones if layer.kind == slot.kind), (next_ones or ["nothing left"])[0])
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


def build_network(found: Found, path: Path) -> MobileNetV2:
    """The network with the weights of a file, in float32. Raises: ValueError for values that cannot be weights."""
    network = MobileNetV2(len(found.layers[-1].tensors["weight"]), found.width).eval()
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


def describe_use(arguments: argparse.Namespace, checkpoint: dict[str, Any], num_classes: int) -> dict[str, Any]:
    """Mean, std and image size as the options say, else the file (if it is one of ours), else ImageNet's.

    The camera orientation and the class names only as the file says.
    """
    recorded = checkpoint.get("config", checkpoint)  # of a checkpoint of train.py, or a file of weights
    recorded = recorded if isinstance(recorded, dict) else {}
    described = {}
    for name, default in IMAGENET.items():
        value = recorded.get(name)
        is_valid, _ = SHARED_RULES[name]
        described[name] = arguments.given.get(name, value if is_valid(value) else default)
    if isinstance(recorded.get("apply_orientation"), bool):
        described["apply_orientation"] = recorded["apply_orientation"]
    if names := stored_class_names(checkpoint, num_classes):
        described["class_names"] = names
    return to_plain(described)


def print_matches(source: Path, found: Found, num_classes: int) -> None:
    """One line for each part of the network: which layers of the file stand for it."""
    counts = [("stem", 2), *((f"stage {n}", stage_size(stage)) for n, stage in enumerate(STAGES, start=1))]
    counts += [("head", 2), ("classifier", 1)]
    tensors = sum(len(layer.tensors) for layer in found.layers)
    print(f"{source}: MobileNetV2 of width {found.width}, {num_classes} classes; {tensors} tensors of 105 layers.")
    rows = [("part", "layers", "first and last in the file", "shapes")]
    rest = iter(found.layers)
    for part, count in counts:
        ends = [layer for place, layer in enumerate(next(rest) for _ in range(count)) if place in (0, count - 1)]
        rows.append((part, count, " .. ".join(layer.name for layer in ends), " .. ".join(str(e.shape) for e in ends)))
    column = max(len(row[2]) for row in rows)
    for part, count, names, shapes in rows:
        print(f"{part:<10} {count:>6}  {names:<{column}}  {shapes}")


def stage_size(stage: Stage) -> int:
    """Convolutions and batch-norms of a stage; blocks without expansion lack the first pair."""
    return stage.repeats * (4 if stage.expand_ratio == 1 else 6)


def print_notes(found: Found, left_out: list[str]) -> None:
    """Say what was chosen, left out and changed on the way."""
    ordered = found.layers
    if found.origin:
        print(f"The weights are those in `{found.origin}`.")
    if left_out:
        print(f"Left out: {', '.join(left_out[:20])}{', ...' * (len(left_out) > 20)}.")
    if found.doubt:
        print(f"By its name and shape {found.doubt}; the order in the file decided this and the like.")
    values = [tensor for layer in ordered for part, tensor in layer.tensors.items() if part != "num_batches_tracked"]
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in values} - {"float32"})
    if dtypes:
        print(f"Values in {', '.join(dtypes)} became float32.")
    if ordered[-1].tensors["weight"].ndim == 4:
        print(f"{ordered[-1].name}.weight, a 1 x 1 convolution {ordered[-1].shape}, became a linear layer.")
    if not all("num_batches_tracked" in layer.tensors for layer in ordered if layer.kind == "batch-norm"):
        print("The file has no num_batches_tracked; it is 0 now, which changes nothing.")


def check_logits(network: MobileNetV2, source: Path) -> None:
    """Raise ValueError unless the logits of two noise images are finite."""
    with torch.inference_mode():
        logits = network(torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    if not logits.isfinite().all():
        raise ValueError(f"{source}: its weights give logits that are not finite; get the file again")
    print(f"Two images of noise give finite logits, from {logits.min():.3g} to {logits.max():.3g}.")


if __name__ == "__main__":
    with user_errors("convert_weights.py: interrupted; nothing was written"):
        main()
