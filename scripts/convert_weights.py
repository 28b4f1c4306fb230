# SPDX-License-Identifier: Apache-2.0
"""Turn anyone's MobileNetV2 into a file that train.py, test.py and inference.py load.

    python3 scripts/convert_weights.py SOURCE TARGET [--mean R G B] [--std R G B] [--image-size PIXELS]
                                       [--padding symmetric|same] [--batch-norm-eps EPS] [--drop-first-class]
                                       [--class-names FILE]

SOURCE is

- a file of PyTorch: .safetensors, a file of torch.save() (a bare state dict, or a checkpoint of Lightning or of any
  training program) or a TorchScript archive, of torchvision, timm (mobilenetv2_035 to _140), d-li14, tonylins or of
  anyone whose network has the layers of Table 2 of the paper;
- a file of Keras 2 or 3: .h5 or .keras with a whole model, in which the network may be one model of several, or .h5
  with weights alone;
- a TensorFlow Lite or an ONNX model, with batch-norm or folded, in float or int8.

The last two groups need the packages of requirements-convert.txt. Nothing in a file is executed; one that holds code,
as a Lambda layer of Keras, is refused.

Keras' models, TensorFlow Lite and ONNX say what they compute. Their operations are compared one by one with those of
MobileNetV2, and padding, eps, image size and, where the file has it, normalisation are taken from it. Weights in int8
become the numbers that they stand for.

A state dict has names and shapes alone. There is no table of names per project. The network is looked for in all
dictionaries of the file, but for an optimizer's. Of several an averaged one is taken, which has ema, swa or average in
its name, then one in `state_dict`, then one in `model`; two of equal rank are refused. What is no part of it is left
out and named. Its layers have one order, and names and shapes must leave exactly one way to put those of the file into
it:

1. layers whose names share a beginning ("blocks.3.1.") stay together;
2. names that differ only in numbers come in the order of the numbers, 2 before 10;
3. a group that holds convolutions begins with one;
4. every layer has the kind and the shape of the one that it stands for.

Where these leave a choice, the order in the file decides, if it fits all layers and is not the alphabet's, and a line
says so. Anything else is refused. Where batch-norm was folded into convolutions with a bias, one is added that passes
on what it gets: right for scoring, and scripts/unfold_batch_norm.py makes it fit for training.

What a file does not say is taken for granted as in PyTorch's networks (symmetric padding, eps 1e-5, ImageNet's mean
and deviation) or, of weights alone in .h5 and where padding is TensorFlow's, as in Keras' own (mean and deviation 0.5);
a line says what. Options replace it.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from converting.layers import EPS
from converting.networks import Found, build_network
from converting.source_networks import read_network
from core.atomic_files import write_atomically
from core.network_weights import DEFINITION, NORMALISATION, folded_layers, record_of, stored_class_names, unfolding
from core.plurals import counted
from core.settings import SHARED_RULES, to_plain
from downloading.published import CHECKPOINTS, HALVES, IMAGENET_MEAN, IMAGENET_STD
from model import STAGES, TORCHVISION, MobileNetV2, Stage
from shared.command_line import OneLineParser, print_config_lines
from shared.weights_targets import check_target
from utils import user_errors

WITHOUT_NAMES = (
    "without class names: --class-names stores them, or class_label_file in config.py names a file of labels"
)
USE = ("image_size", *NORMALISATION, *DEFINITION)  # what the options and many files say


def main() -> None:
    arguments = parse_arguments()
    source, target = arguments.source, arguments.target
    check_target(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; make it, or name a target in another one")
    found, left_out, checkpoint = read_network(source)
    if arguments.drop_first_class:
        found = without_first_class(found, source)
    num_classes = found.num_classes
    use, origins = describe_use(arguments, found, checkpoint)
    definition = {name: use[name] for name in DEFINITION}
    network = build_network(found._replace(facts=found.facts._replace(**definition)), source)
    described = use | describe_data(arguments, checkpoint, num_classes) | {"model_width_mult": found.width}
    print_matches(source, found, num_classes)
    print_notes(found, left_out)
    print_use(found, num_classes, use, origins)
    check_logits(network, source)
    record = described | {"model_arch_name": "mobilenet_v2", "source": source.name, "state_dict": network.state_dict()}
    write_atomically(target, lambda file: torch.save(record, file))
    print(f"{target}: written{'' if 'class_names' in described else ', ' + WITHOUT_NAMES}.")
    print_next(target, network, described, num_classes)


def print_next(target: Path, network: MobileNetV2, described: dict[str, Any], num_classes: int) -> None:
    """Print the lines of config.py to set."""
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
    parser.add_argument("source", type=Path, help="file with the weights of a MobileNetV2")
    parser.add_argument("target", type=Path, help="file to write, for example results/pretrained_models/mine.pth.tar")
    parser.add_argument("--mean", type=float, nargs=3, help="of each RGB channel (default: what the file says)")
    parser.add_argument("--std", type=float, nargs=3, help="of each RGB channel (default: what the file says)")
    parser.add_argument("--image-size", type=int, help="pixels, as it was trained (default: likewise, else 224)")
    parser.add_argument("--padding", choices=("symmetric", "same"), help="where the file does not say it")
    parser.add_argument("--batch-norm-eps", type=float, help="where the file does not say it")
    parser.add_argument(
        "--drop-first-class", action="store_true", help="the background, which TensorFlow's ImageNet networks have"
    )
    parser.add_argument(
        "--class-names", type=Path, metavar="FILE", help="a text file, one name a line, in the order of the training"
    )
    arguments = parser.parse_args()
    values = (arguments.image_size, arguments.mean, arguments.std, arguments.padding, arguments.batch_norm_eps)
    arguments.given = {name: value for name, value in zip(USE, values, strict=True) if value is not None}
    for name, value in arguments.given.items():
        is_valid, expected = SHARED_RULES[name]
        if not is_valid(value):
            parser.error(f"{name} = {value}; expected {expected}")
    return arguments


def without_first_class(found: Found, source: Path) -> Found:
    """The network without the first row of its classifier. Raises: ValueError if that is its only one."""
    if found.num_classes < 3:
        raise ValueError(f"{source}: has too few classes to drop one; leave out --drop-first-class")
    return found.with_classifier(lambda tensor: tensor[1:], f"The first of {found.num_classes} classes is left out.")


def describe_use(
    arguments: argparse.Namespace, found: Found, checkpoint: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """How the network is used, by the names of USE, and who says so.

    Raises: ValueError for a padding or an eps that is not that of the file.
    """
    recorded = record_of(checkpoint)
    said = {name: recorded[name] for name in USE if name in recorded and SHARED_RULES[name][0](recorded[name])}
    facts = {name: value for name, value in found.facts._asdict().items() if name in USE and value is not None}
    said |= {} if found.facts.are_usual else facts
    given = arguments.given
    if found.facts.is_folded and given.get("model_batch_norm_eps", EPS) != EPS:
        raise ValueError(f"{arguments.source}: its batch-norm is folded and has no eps; leave out --batch-norm-eps")
    for name in DEFINITION:
        if name in given and said.get(name, given[name]) != given[name]:
            option = "--padding" if name == DEFINITION[0] else "--batch-norm-eps"
            raise ValueError(f"{arguments.source}: has {name} = {json.dumps(said[name])}; leave out {option}")
    known = facts | said | given
    is_same = known.get("model_padding") == "same"
    usual = (224, HALVES if is_same else IMAGENET_MEAN, HALVES if is_same else IMAGENET_STD, *TORCHVISION)
    use = {name: known.get(name, value) for name, value in zip(USE, usual, strict=True)}
    origins = dict.fromkeys(USE, "Taken for granted") | dict.fromkeys(said, "The file says")
    return to_plain(use), origins | dict.fromkeys(given, "The options say")


def describe_data(arguments: argparse.Namespace, checkpoint: dict[str, Any], num_classes: int) -> dict[str, Any]:
    """The class names of the option, else, with the camera orientation, those of a file of ours."""
    orientation = record_of(checkpoint).get("apply_orientation")
    described: dict[str, Any] = {} if not isinstance(orientation, bool) else {"apply_orientation": orientation}
    if names := read_names(arguments.class_names, num_classes) or stored_class_names(checkpoint, num_classes):
        described["class_names"] = names
    return described


def read_names(path: Path | None, num_classes: int) -> list[str] | None:
    """The lines of a text file, None if none is given. Raises: ValueError if they are not the names of the classes."""
    if path is None:
        return None
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name a text file with one class name a line")
    try:
        names = path.read_text(encoding="utf-8-sig").split("\n")  # programs on Windows begin with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8; save it as that, with one class name a line") from error
    names = [name.strip() for name in names if name.strip()]
    if len(names) != num_classes or len(set(names)) != num_classes:
        found = f"{counted(len(names), 'name')}, {len(set(names))} of them different"
        raise ValueError(f"{path}: has {found}, for {num_classes} classes; put one on each line")
    return names


def print_use(found: Found, num_classes: int, use: dict[str, Any], origins: dict[str, str]) -> None:
    """Say how the network is used, by whom that was said, and what is unusual."""
    for origin in ("The file says", "The options say", "Taken for granted"):
        shown = [f"{name} = {json.dumps(use[name])}" for name in USE if origins[name] == origin]
        if shown:
            print(f"{origin}: {', '.join(shown)}.")
    sizes = [size for width, size, *_ in CHECKPOINTS if width == found.width]
    if sizes and use["image_size"] not in sizes:
        print(f"Width {found.width} was published for {sorted(sizes)} pixels, not for {use['image_size']}.")
    if num_classes == 1001:
        print("1001 classes: TensorFlow counts a background in front of ImageNet's; --drop-first-class leaves it out.")


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
        names = " .. ".join(layer.name for layer in ends)
        rows.append((part, str(count), names, " .. ".join(str(layer.shape) for layer in ends)))
    column = max(len(row[2]) for row in rows)
    for part, num_layers, names, shapes in rows:
        print(f"{part:<10} {num_layers:>6}  {names:<{column}}  {shapes}")


def stage_size(stage: Stage) -> int:
    """Convolutions and batch-norms of a stage; blocks without expansion lack the first pair."""
    return stage.repeats * (4 if stage.expand_ratio == 1 else 6)


def print_notes(found: Found, left_out: list[str]) -> None:
    """Say what was chosen, left out and changed on the way."""
    ordered = found.layers
    for note in found.facts.notes:
        print(note)
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
