# SPDX-License-Identifier: Apache-2.0
"""Mean IoU of the weights of segmentation/config.py on pictures never trained on: python3 segmentation/test.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the folder of the files that all tasks share

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

from types import ModuleType

import torch

from core.metrics import show_scores
from core.picture_sources import open_pictures
from core.processes import from_main, joined_processes
from core.score_reports import name_shares, print_classes, write_scores
from core.settings import check_config
from dataset import create_batches
from segmentation.dataset import MaskedImages
from segmentation.model import load_network
from segmentation.scoring import PixelScores, intersection_over_union
from segmentation.settings import RULES
from utils import check_workers, choose_dtype, evaluate, loader_options, remedy_for_weights, setup_runtime, user_errors


def main(config: ModuleType) -> None:
    check_config(config, "test", RULES)
    device = setup_runtime(config.seed, config.device, config.precision, config.deterministic)
    check_workers(config.num_workers, config.batch_size, config.image_size, num_loaders=1)
    with joined_processes(device):
        test(config, device)


def test(config: ModuleType, device: torch.device) -> None:
    """Score the pictures, each process its batches; write test.json."""
    dtype = choose_dtype(config.precision, device)
    network, class_names = load_network(config, device, dtype)
    pictures = MaskedImages(open_pictures(config, "test", class_names, masks=True), config.image_size)
    batches = create_batches(pictures, **loader_options(config, device))
    print(f"Load `{config.model_arch_name}` model weights `{Path(config.model_weights_path).resolve()}` successfully.")
    print(f"{len(pictures)} images of {config.image_size} x {config.image_size} pixels; {device}, {dtype}.")
    scores = PixelScores(config.model_num_classes, device)
    metrics = evaluate(
        network,
        batches,
        scores,
        device=device,
        dtype=dtype,
        print_frequency=config.test_print_frequency,
        remedy=remedy_for_weights(config, dtype),
    )
    classes = name_shares(pictures.classes, (100 * intersection_over_union(scores.counts())).tolist())
    report = metrics | {"iou": classes, "output_stride": config.model_output_stride}
    from_main(lambda: write_scores(config, report, device, dtype))
    print_classes("IoU", classes, "in no picture")
    print(f" * {show_scores(metrics, config.model_num_classes, 3)} ({metrics['images']} images)")


if __name__ == "__main__":
    with user_errors(config_name="segmentation/config.py"):
        from segmentation import config

        main(config)
