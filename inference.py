# SPDX-License-Identifier: Apache-2.0
"""The five most likely classes of pictures: python3 inference.py [IMAGE or FOLDER ...].

Without arguments it classifies config.inference_image_path.
"""

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from core import folding
from core.class_names import load_labels
from core.image_files import decode_image, read_bytes, read_orientation
from core.image_names import IMAGE_SUFFIXES, describe_left_out, is_left_out, kind_of_name
from core.pixels import Image
from core.runtimes import ExportedNetwork
from core.settings import check_config, config_lines
from core.trained_networks import find_device, load_network
from imgproc import eval_transform, normalize
from utils import (
    autocast,
    choose_dtype,
    compile_network,
    describe_error,
    remedy_for_weights,
    setup_runtime,
    user_errors,
)

MANY_IMAGES = 200  # from here on folding.as_one_graph() saves more than the 0.3 s that it takes at first


def main(config: ModuleType, arguments: list[str]) -> None:
    check_config(config)
    device = setup_runtime(config.seed, find_device(config), config.precision, config.deterministic)
    images = find_images(arguments or [config.inference_image_path])
    network, class_names = load_network(config)
    labels = choose_labels(network, class_names, config)
    print(f"Build `{config.model_arch_name}` model successfully.")
    print(f"Load `{config.model_arch_name}` model weights `{Path(config.model_weights_path).resolve()}` successfully.")
    classify = partial(most_likely_classes, speed_up(network, config, device, len(images)), config, device)
    print_answers(images, partial(load_picture, config), classify, labels)


def print_answers(
    images: list[Path],
    load: Callable[[Path], Image],
    classify: Callable[[Image], list[tuple[int, float]]],
    labels: list[str],
) -> None:
    """The answers for each picture; of several those that cannot be read are named at the end, with status 1.

    Raises: ValueError or OSError for a single one that cannot be read.
    """
    unreadable = []
    for path in images:
        try:
            image = load(path)
        except (ValueError, OSError) as error:
            if len(images) == 1:
                raise
            unreadable.append(describe_error(error))
            continue
        if len(images) > 1:
            print(f"{path}:")
        for index, probability in classify(image):
            print(f"{labels[index]:<75} ({probability:.2%})")
    if unreadable:
        sys.stdout.flush()
        print(f"{len(unreadable)} of {len(images)} pictures could not be read:", *unreadable, sep="\n", file=sys.stderr)
        sys.exit(1)


def choose_labels(network: nn.Module, class_names: list[str] | None, config: ModuleType) -> list[str]:
    """The label of each class: those of config.class_label_file, else those that the network came with."""
    if isinstance(network, ExportedNetwork) and not config.class_label_file:
        return network.labels
    return load_labels(config.class_label_file, class_names, config.model_num_classes)


def speed_up(
    network: nn.Module, config: ModuleType, device: torch.device, num_images: int
) -> Callable[[Tensor], Tensor]:
    """The network in the form that classifies so many images soonest: [1, 3, S, S] -> logits [1, num_classes]."""
    if isinstance(network, ExportedNetwork):
        return network
    network = network.to(device).to(memory_format=torch.channels_last)
    dtype = choose_dtype(config.precision, device)
    if num_images >= MANY_IMAGES and not config.compile_model and folding.has_fused_convolution(device, dtype):
        with contextlib.suppress(RuntimeError):
            return folding.as_one_graph(network, config.image_size, dtype)
    network = folding.folded(network, dtype)
    if config.compile_model:
        compile_network(network, device)
    return network


def find_images(arguments: list[str]) -> list[Path]:
    """The named files, and the images in the named folders in sorted order; a line on stderr about other files there.

    Raises: FileNotFoundError.
    """
    images = []
    for path in map(Path, arguments):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such image or folder")
        files = sorted(file for file in path.rglob("[!.]*") if not file.is_dir())  # also a link to nothing, to name it
        inside = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        left_out = Counter(kind_of_name(file.name) for file in files if is_left_out(file.name))
        if path.is_dir() and not inside:
            instead = f", but {describe_left_out(left_out)}" if left_out else ""
            raise FileNotFoundError(f"{path}: no images in this folder ({', '.join(IMAGE_SUFFIXES)}){instead}")
        if left_out:
            print(f"{path}: left out {describe_left_out(left_out)}", file=sys.stderr)
        images += inside if path.is_dir() else [path]
    return images


def load_picture(config: ModuleType, path: Path) -> Image:
    """Decode a picture as config.apply_orientation says; a line on stderr if that leaves it turned or mirrored."""
    data = read_bytes(path)
    image = decode_image(data, path, config.apply_orientation)
    if not config.apply_orientation and (orientation := read_orientation(data)) != 1:
        how = "mirrored" if orientation == 2 else "upside down" if orientation in (3, 4) else "on its side"
        print(
            f"{path}: stored {how} (camera orientation {orientation}), classified as stored; "
            f"config.py line {config_lines(config).get('apply_orientation', '?')}: apply_orientation",
            file=sys.stderr,
        )
    return image


@torch.inference_mode()
def most_likely_classes(
    network: Callable[[Tensor], Tensor], config: ModuleType, device: torch.device, image: Image
) -> list[tuple[int, float]]:
    """The five likeliest classes of one picture, uint8 [H, W, 3], and their probabilities, likeliest first.

    Raises: FloatingPointError if a logit is infinite or NaN.
    """
    image = eval_transform(image, config.image_size)  # uint8 [S, S, 3]
    batch = torch.from_numpy(image)[None].to(device)
    if not (isinstance(network, ExportedNetwork) and network.takes_levels):
        shares = config.model_mean_parameters, config.model_std_parameters
        mean, std = (torch.tensor(values, device=device) for values in shares)
        batch = normalize(batch.permute(0, 3, 1, 2), mean, std)
    dtype = choose_dtype(config.precision, device)
    with autocast(device, dtype):
        logits = network(batch)  # [1, num_classes]
    if not logits.isfinite().all():
        raise FloatingPointError(f"a logit became infinite or NaN; {remedy_for_weights(config, dtype)}")
    best = logits.float().softmax(dim=1)[0].topk(min(5, logits.shape[1]))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files and folders of images")
    parsed = parser.parse_args()
    with user_errors():
        import config

        main(config, parsed.images)
