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

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from converting.networks import Found, build_network, find_network
from converting.source_files import read_source
from core.atomic_files import write_atomically
from core.network_weights import folded_layers, stored_class_names, unfolding
from core.settings import SHARED_RULES, to_plain
from model import STAGES, MobileNetV2, Stage
from shared.command_line import OneLineParser, print_config_lines
from utils import user_errors

IMAGENET = {
    "model_mean_parameters": [0.485, 0.456, 0.406],
    "model_std_parameters": [0.229, 0.224, 0.225],
    "image_size": 224,
}


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
