# SPDX-License-Identifier: Apache-2.0
"""Turn anyone's MobileNetV2 checkpoint into a file that train.py, test.py and inference.py load.

    python3 scripts/convert_weights.py SOURCE TARGET [--mean R G B] [--std R G B] [--image-size PIXELS]

SOURCE is a PyTorch file or a .safetensors of torchvision, timm (mobilenetv2_035 to _140), d-li14, tonylins or of
anyone whose network has the layers of Table 2 of the paper. There is no table of names per project. The layers have
one order, and names and shapes must leave exactly one way to put the file's layers into it:

1. layers whose names share a beginning ("blocks.3.1.") stay together;
2. names that differ only in numbers come in the order of the numbers, 2 before 10;
3. a group that holds convolutions begins with one;
4. every layer has the kind and the shape of the one that it stands for.

Where these leave a choice, the order in the file decides, if it fits all layers and is not the alphabet's, and a line
says so. Anything else is refused. A file of weights does not say how they are used: taken for granted are batch-norm
with eps 1e-5, ReLU6 and symmetric padding, as in the projects above (TensorFlow has eps 1e-3 and pads one side).
"""

from command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import functools
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from command_line import OneLineParser, print_config_lines
from model import STAGES, MobileNetV2, Stage
from utils import SHARED_RULES, load_weights, plain_copy, read_checkpoint, to_plain, user_errors, write_atomically

PUBLISHED_WIDTHS = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35, 0.25, 0.1)
WIDTHS = tuple(dict.fromkeys((*PUBLISHED_WIDTHS, *(round(0.05 * step, 2) for step in range(1, 41)))))
# Where training programs put the weights, the averaged ones first: those are what they publish.
WRAPPINGS = ("ema_state_dict", "state_dict_ema", "model_ema", "state_dict", "model")
MAX_NESTING = 3  # more is made to keep a reader busy: a pickled dictionary can hold itself
MAX_NAME_LENGTH = 200
NORM_PARTS = {"weight", "bias", "running_mean", "running_var"}
IMAGENET = {
    "model_mean_parameters": [0.485, 0.456, 0.406],
    "model_std_parameters": [0.229, 0.224, 0.225],
    "image_size": 224,
}


class Layer(NamedTuple):
    """The tensors that belong to one module."""

    name: str
    kind: str  # "convolution", "batch-norm" or "classifier"
    tensors: dict[str, Tensor]  # by the last part of their names

    @property
    def shape(self) -> list[int]:
        return list(self.tensors["weight"].shape)

    @property
    def parts(self) -> list[str]:
        return self.name.split(".")

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.shape}"


def main() -> None:
    arguments = parse_arguments()
    source, target = arguments.source, arguments.target
    if os.path.lexists(target):
        raise ValueError(f"{target}: exists and stays as it is; remove it or name another file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; make it, or name a target in another one")
    checkpoint = read_source(source)
    weights, origin = find_weights(checkpoint, source)
    layers = group_layers(weights, source)
    width = infer_width(layers)
    ordered, doubt = order_layers(layers, network_layers(width), f"{source}: width {width}")
    network = build_network(ordered, width, source)
    num_classes = len(ordered[-1].tensors["weight"])
    described = describe_use(arguments, checkpoint, num_classes) | {"model_width_mult": width}
    print_matches(source, ordered, width, num_classes)
    print_notes(origin, ordered, doubt)
    check_logits(network, source)
    record = described | {"model_arch_name": "mobilenet_v2", "source": source.name, "state_dict": network.state_dict()}
    write_atomically(target, lambda file: torch.save(record, file))
    print(f"{target}: written{'' if 'class_names' in described else ', without class names'}.")
    described.pop("class_names", None)
    scored = {"mode": "test", "model_num_classes": num_classes, "model_weights_path": str(target)}
    print_config_lines("to test or classify", described | scored)
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
    """Read a .safetensors or a file of torch.save(), executing nothing in it.

    Raises: FileNotFoundError; ValueError naming the file if it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name a file of weights")
    with path.open("rb") as file:
        start = file.read(9)
    if path.suffix != ".safetensors" and start[8:] != b"{":  # 8 bytes of length, then JSON
        return read_checkpoint(path)
    try:
        return plain_copy(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise ValueError(f"{path}: damaged or not a safetensors file ({reason}); get it again") from error


def find_weights(checkpoint: dict[str, Any], path: Path) -> tuple[dict[str, Tensor], str]:
    """The dictionary of tensors in a checkpoint, and the name it has there, "" for a bare one.

    Raises: ValueError if there is none.
    """
    weights, origin = checkpoint, ""
    for _ in range(MAX_NESTING):
        found = [key for key in WRAPPINGS if isinstance(weights.get(key), dict)]
        if found:
            weights, origin = weights[found[0]], f"{origin}.{found[0]}".removeprefix(".")
    # torch.optim.swa_utils.AveragedModel counts its updates among the weights.
    weights = {str(name): tensor for name, tensor in weights.items() if name != "n_averaged"}
    for name, tensor in weights.items():
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise ValueError(f"{path}: {name[:80]!r}... is too long or unprintable for a name; do not use this file")
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"{path}: {name!r} is a {type(tensor).__name__}, not a tensor; expected a dictionary of tensors, "
                f"bare or as one of {', '.join(WRAPPINGS)}"
            )
    if not weights:
        raise ValueError(f"{path}: holds no tensors")
    return weights, origin


def group_layers(weights: dict[str, Tensor], path: str | Path) -> list[Layer]:
    """The layers of a state dict, in the order in which it names them first. Raises: ValueError for an unknown kind."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        group, _, part = name.rpartition(".")
        groups.setdefault(group, {})[part] = tensor
    layers = []
    for group, tensors in groups.items():
        kind = layer_kind(tensors)
        if kind is None:
            parts = ", ".join(f"{part} {list(tensor.shape)}" for part, tensor in list(tensors.items())[:5])
            raise ValueError(
                f"{path}: {group!r} has {parts[:200]}: no convolution without bias, batch-norm or classifier, "
                "which are all that MobileNetV2 has (a batch-norm folded into a convolution cannot be converted)"
            )
        layers.append(Layer(group, kind, tensors))
    return layers


def layer_kind(tensors: dict[str, Tensor]) -> str | None:
    """What a module with these tensors is; None for anything that MobileNetV2 does not have."""
    shapes = {part: tuple(tensor.shape) for part, tensor in tensors.items()}
    if shapes.pop("num_batches_tracked", ()) in ((), (1,)) and shapes.keys() == NORM_PARTS:
        return "batch-norm" if len(set(shapes.values())) == 1 and len(shapes["weight"]) == 1 else None
    if tensors.keys() == {"weight"}:
        return "convolution" if len(shapes["weight"]) == 4 else None
    is_linear = tensors.keys() == {"weight", "bias"} and shapes["weight"][2:] in ((), (1, 1))
    has_classes = is_linear and len(shapes["weight"]) >= 2 and shapes["weight"][:1] == shapes["bias"] > (0,)
    return "classifier" if has_classes else None


@functools.cache
def network_layers(width: float) -> list[Layer]:
    """The layers of our network in their order, without values; its classifier has one class."""
    with torch.device("meta"):
        return group_layers(MobileNetV2(1, width).state_dict(), "model.py")


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


def build_network(ordered: list[Layer], width: float, path: Path) -> MobileNetV2:
    """The network with the weights of a file, in float32. Raises: ValueError for values that cannot be weights."""
    network = MobileNetV2(len(ordered[-1].tensors["weight"]), width).eval()
    weights = {}
    for found, wanted in zip(ordered, group_layers(network.state_dict(), path), strict=True):
        for part, own in wanted.tensors.items():
            tensor = found.tensors.get(part, torch.zeros_like(own))  # old files do not count batches
            is_usable = tensor.is_floating_point() or not own.is_floating_point()
            if not (is_usable and tensor.to(torch.float32).isfinite().all()):
                reason = "values that are not finite" if is_usable else f"values of {tensor.dtype}"
                raise ValueError(f"{path}: {found.name}.{part} has {reason}; get the file again")
            weights[f"{wanted.name}.{part}"] = tensor.to(own.dtype).reshape(own.shape)
    load_weights(network, weights, path)
    return network


def describe_use(arguments: argparse.Namespace, checkpoint: dict[str, Any], num_classes: int) -> dict[str, Any]:
    """Mean, std and image size as the options say, else the file (if it is one of ours), else ImageNet's."""
    recorded = checkpoint.get("config", checkpoint)  # of a checkpoint of train.py, or a file of weights
    described = {}
    for name, default in IMAGENET.items():
        value = recorded.get(name) if isinstance(recorded, dict) else None
        is_valid, _ = SHARED_RULES[name]
        described[name] = arguments.given.get(name, value if is_valid(value) else default)
    names = checkpoint.get("class_names")
    if isinstance(names, list) and len(names) == num_classes and all(isinstance(name, str) for name in names):
        described["class_names"] = names
    return to_plain(described)


def print_matches(source: Path, ordered: list[Layer], width: float, num_classes: int) -> None:
    """One line for each part of the network: which layers of the file stand for it."""
    counts = [("stem", 2), *((f"stage {n}", stage_size(stage)) for n, stage in enumerate(STAGES, start=1))]
    counts += [("head", 2), ("classifier", 1)]
    tensors = sum(len(layer.tensors) for layer in ordered)
    print(f"{source}: MobileNetV2 of width {width}, {num_classes} classes; {tensors} tensors of {len(ordered)} layers.")
    rows = [("part", "layers", "first and last in the file", "shapes")]
    rest = iter(ordered)
    for part, count in counts:
        ends = [layer for place, layer in enumerate(next(rest) for _ in range(count)) if place in (0, count - 1)]
        rows.append((part, count, " .. ".join(layer.name for layer in ends), " .. ".join(str(e.shape) for e in ends)))
    column = max(len(row[2]) for row in rows)
    for part, count, names, shapes in rows:
        print(f"{part:<10} {count:>6}  {names:<{column}}  {shapes}")


def stage_size(stage: Stage) -> int:
    """Convolutions and batch-norms of a stage; blocks without expansion lack the first pair."""
    return stage.repeats * (4 if stage.expand_ratio == 1 else 6)


def print_notes(origin: str, ordered: list[Layer], doubt: str) -> None:
    """Say what was chosen and changed on the way."""
    if origin:
        print(f"The weights are those in `{origin}`.")
    if doubt:
        print(f"By its name and shape {doubt}; the order in the file decided this and the like.")
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
