# SPDX-License-Identifier: Apache-2.0
"""Make weights whose batch-norm was folded into the convolutions (TFLite, ONNX and other exports) fit for fine-tuning.

    python3 scripts/unfold_batch_norm.py SOURCE TARGET --images data/CIFAR10/train --image-size 96 \\
        --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5

Such weights say that every layer has mean 0 and variance 1. Scoring them is fine, but in training batch-norm would
divide by the true deviation and lose the scales. This measures mean and variance on images, writes them into
the file and changes scale and shift so that the network computes what it did before. Each filter gets the norm 1, so
that all learn at the rate that is set, not one layer at a hundredth of another's.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.atomic_files import write_atomically
from core.folders import list_classes
from core.network_weights import (
    DEFINITION,
    NORMALISATION,
    check_weights,
    extract_weights,
    folded_layers,
    load_weights,
    record_of,
)
from core.plurals import counted
from core.settings import SHARED_RULES, to_plain
from core.weights_files import read_checkpoint
from dataset import ImageDataset
from imgproc import eval_transform, normalize
from model import TORCHVISION, Definition, MobileNetV2
from shared.command_line import OneLineParser, at_least, print_config_lines
from shared.weights_targets import check_target
from utils import setup_runtime, user_errors


def main() -> None:
    arguments = parse_arguments()
    check_target(arguments.target)
    setup_runtime(0, "cpu")
    checkpoint = read_checkpoint(arguments.source)
    weights = extract_weights(checkpoint, arguments.source)
    classifier = weights.get("classifier.1.weight")
    if classifier is None or classifier.ndim != 2 or len(classifier) == 0:
        raise ValueError(f"{arguments.source}: no classifier.1.weight for classes; these are not MobileNetV2 weights")
    use = choose_use(arguments, checkpoint)
    definition = Definition(*(use[name] for name in DEFINITION))
    build = partial(MobileNetV2, len(classifier), use["model_width_mult"], definition=definition)
    with torch.device("meta"):  # a file can claim more classes than there is memory for
        check_weights(build(), weights, arguments.source)
    network = build().eval()
    load_weights(network, weights, arguments.source)
    if not folded_layers(weights):
        raise ValueError(f"{arguments.source}: its batch-norm is not folded; train from it as it is")
    images = sample_images(arguments, use)
    with torch.inference_mode():
        before = network(images)
        give_unit_norm(network)
        measure_and_rescale(network, images)
        change = (network(images) - before).abs().max() / before.abs().max()
    described = {name: checkpoint[name] for name in (*SHARED_RULES, "class_names") if name in checkpoint}
    record = described | use | {"state_dict": network.state_dict()}
    write_atomically(arguments.target, lambda file: torch.save(record, file))
    on = counted(len(images), "image")
    print(f"{arguments.target}: unfolded on {on}; the logits moved by {change:.1e} of the largest.")
    start = {"mode": "train", "pretrained_model_weights_path": str(arguments.target)}
    print_config_lines("to fine-tune", start | use)


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="weights file with folded batch-norm")
    parser.add_argument("target", type=Path, help="file to write, which says what the source does")
    parser.add_argument("--images", type=Path, required=True, help="folder of <class>/<image> to measure on")
    parser.add_argument("--num-images", type=at_least(1), default=512, help="so many, spread evenly (default 512)")
    parser.add_argument("--image-size", type=int, help="pixels, as it will be trained (default: as it was, else 224)")
    silent = "where the file does not say it"
    parser.add_argument("--width-mult", type=float, help=f"{silent} (default: 1.0)")
    parser.add_argument("--mean", type=float, nargs=3, help=f"{silent} (default: ImageNet's)")
    parser.add_argument("--std", type=float, nargs=3, help=f"{silent} (default: ImageNet's)")
    parser.add_argument("--padding", choices=("symmetric", "same"), help=f"{silent} (default: symmetric)")
    parser.add_argument("--batch-norm-eps", type=float, help=f"{silent} (default: 1e-5)")
    orientation = f"turn the images upright, as config.py can; {silent}"
    parser.add_argument("--apply-orientation", action=argparse.BooleanOptionalAction, help=orientation)
    return parser.parse_args()


def choose_use(arguments: argparse.Namespace, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """How the network is used, by the names of config.py, as the file or the options say, else as torchvision's.

    Raises: ValueError if the two say otherwise, but for what is of the images alone, or what cannot be.
    """
    record = record_of(checkpoint)
    options = {
        "image_size": (arguments.image_size, 224),
        "model_width_mult": (arguments.width_mult, 1.0),
        "model_mean_parameters": (arguments.mean, [0.485, 0.456, 0.406]),
        "model_std_parameters": (arguments.std, [0.229, 0.224, 0.225]),
        "model_padding": (arguments.padding, TORCHVISION.padding),
        "model_batch_norm_eps": (arguments.batch_norm_eps, TORCHVISION.batch_norm_eps),
        "apply_orientation": (arguments.apply_orientation, None),  # what nobody says is not written
    }
    chosen = {}
    for name, (option, usual) in options.items():
        said = [to_plain(value) for value in (option, record.get(name)) if value is not None]
        is_valid, expected = SHARED_RULES[name]
        if wrong := [value for value in said if not is_valid(value)]:
            raise ValueError(f"{arguments.source}: {name} = {wrong[0]}; expected {expected}")
        if len(said) == 2 and said[0] != said[1] and name not in ("image_size", "apply_orientation"):
            given, trained = map(json.dumps, said)
            raise ValueError(f"{arguments.source}: trained with {name} = {trained}, not {given}; leave the option out")
        if said or usual is not None:
            chosen[name] = said[0] if said else usual
    return chosen


def sample_images(arguments: argparse.Namespace, use: dict[str, Any]) -> Tensor:
    """Normalised images [N, 3, S, S] from all classes."""
    dataset = ImageDataset(
        arguments.images,
        partial(eval_transform, image_size=use["image_size"]),
        num_classes=len(list_classes(str(arguments.images))),
        apply_orientation=use.get("apply_orientation", False),
    )
    chosen = np.linspace(0, len(dataset) - 1, min(arguments.num_images, len(dataset))).round().astype(int)
    loaded = (dataset[0, index] for index in chosen)
    images = torch.from_numpy(np.stack([item[0] for item in loaded if item is not None]))  # None: with skip_bad
    mean, std = (torch.tensor(use[name]) for name in NORMALISATION)
    return normalize(images.permute(0, 3, 1, 2), mean, std)


def give_unit_norm(network: nn.Module) -> None:
    """Divide every filter by its norm, and let the batch-norm behind it multiply by that.

    What folding left in a filter decides how fast it learns: with batch-norm behind it, a filter w with the rate r
    turns as fast as one of norm 1 with r / |w|^2 (arXiv:1706.05350).
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for convolution, norm in zip(convolutions, norms, strict=True):
        length = convolution.weight.flatten(1).norm(dim=1)
        length[length == 0] = 1
        convolution.weight.div_(length[:, None, None, None])
        norm.get_buffer("running_mean").div_(length)
        norm.weight.mul_(length)


def measure_and_rescale(network: nn.Module, images: Tensor) -> None:
    """Set every batch-norm's statistics to those of its input, and scale and shift so that its output stays."""

    def rescale(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0].double(), dim=(0, 2, 3), correction=0)
        # y = (x - old mean) * old gain + shift = (x - mean) * old gain + shift + (mean - old mean) * old gain
        old_mean, old_variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        old_gain = norm.weight / (old_variance + norm.eps).sqrt()
        norm.bias.add_(old_gain * (mean - old_mean))
        norm.weight.copy_(old_gain * (variance + norm.eps).sqrt())
        old_mean.copy_(mean)
        old_variance.copy_(variance)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(rescale) for norm in norms]
    network(images)
    for hook in hooks:
        hook.remove()


if __name__ == "__main__":
    with user_errors():
        main()
