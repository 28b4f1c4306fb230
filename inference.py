# SPDX-License-Identifier: Apache-2.0
"""The five most likely classes of pictures: python3 inference.py [IMAGE or FOLDER ...].

Without arguments it classifies config.inference_image_path.
"""

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from core.class_names import load_labels
from core.named_pictures import find_images, load_picture, read_each
from core.pixels import Image
from core.runtimes import ExportedNetwork
from core.settings import check_config, config_lines
from core.trained_networks import find_device, load_network
from imgproc import eval_transform, normalize
from utils import (
    autocast,
    choose_dtype,
    describe_error,
    fastest_form,
    remedy_for_weights,
    setup_runtime,
    user_errors,
)


def main(config: ModuleType, arguments: list[str]) -> None:
    check_config(config)
    device = setup_runtime(config.seed, find_device(config), config.precision, config.deterministic)
    images = find_images(arguments or [config.inference_image_path])
    network, class_names = load_network(config)
    labels = choose_labels(network, class_names, config)
    print(f"Build `{config.model_arch_name}` model successfully.")
    print(f"Load `{config.model_arch_name}` model weights `{Path(config.model_weights_path).resolve()}` successfully.")
    if not isinstance(network, ExportedNetwork):
        network = fastest_form(network, config, device, len(images))
    classify = partial(most_likely_classes, network, config, device)
    line = config_lines(config).get("apply_orientation", "?")
    left_turned = f"classified as stored; config.py line {line}: apply_orientation"
    load = partial(load_picture, left_turned=left_turned, apply_orientation=config.apply_orientation)
    print_answers(images, load, classify, labels)


def print_answers(
    images: list[Path],
    load: Callable[[Path], Image],
    classify: Callable[[Image], list[tuple[int, float]]],
    labels: list[str],
) -> None:
    """The answers for each picture; those that cannot be read as read_each() has it."""
    for path, image in read_each(images, load, describe_error):
        if len(images) > 1:
            print(f"{path}:")
        for index, probability in classify(image):
            print(f"{labels[index]:<75} ({probability:.2%})")


def choose_labels(network: nn.Module, class_names: list[str] | None, config: ModuleType) -> list[str]:
    """The label of each class: those of config.class_label_file, else those that the network came with."""
    if isinstance(network, ExportedNetwork) and not config.class_label_file:
        return network.labels
    return load_labels(config.class_label_file, class_names, config.model_num_classes)


def most_likely_classes(
    network: Callable[[Tensor], Tensor], config: ModuleType, device: torch.device, image: Image
) -> list[tuple[int, float]]:
    """The five likeliest classes of one picture, uint8 [H, W, 3], and their probabilities, likeliest first.

    Raises: as compute_outputs().
    """
    logits = compute_outputs(network, config, device, eval_transform(image, config.image_size))  # [1, num_classes]
    best = logits.softmax(dim=1)[0].topk(min(5, logits.shape[1]))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


@torch.inference_mode()
def compute_outputs(
    network: Callable[[Tensor], Tensor], config: ModuleType, device: torch.device, image: Image, what: str = "a logit"
) -> Tensor:
    """What a network gives for one picture in the size that it takes: uint8 [H, W, 3] -> float32 [1, ...].

    Raises: FloatingPointError if `what`, which any value of that is, is infinite or NaN.
    """
    batch = torch.from_numpy(image)[None].to(device)
    if not (isinstance(network, ExportedNetwork) and network.takes_levels):
        shares = config.model_mean_parameters, config.model_std_parameters
        mean, std = (torch.tensor(values, device=device) for values in shares)
        batch = normalize(batch.permute(0, 3, 1, 2), mean, std)
    dtype = choose_dtype(config.precision, device)
    with autocast(device, dtype):
        outputs = network(batch)
    if not outputs.isfinite().all():
        raise FloatingPointError(f"{what} became infinite or NaN; {remedy_for_weights(config, dtype)}")
    return outputs.float()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files and folders of images")
    parsed = parser.parse_args()
    with user_errors():
        import config

        main(config, parsed.images)
