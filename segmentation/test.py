# SPDX-License-Identifier: Apache-2.0
"""Mean IoU of the weights of segmentation/config.py on pictures never trained on: python3 segmentation/test.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the folder of the files that all tasks share

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import json
import math
from types import ModuleType
from typing import Any

import torch

from core.atomic_files import write_atomically
from core.exported_files import hash_file
from core.folders import shorten
from core.metrics import show_scores
from core.processes import from_main, joined_processes
from core.settings import check_config, precision_name
from dataset import create_batches
from segmentation.dataset import MaskedImages, open_pictures
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
    pictures = MaskedImages(open_pictures(config, "test", class_names), config.image_size)
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
    values = (100 * intersection_over_union(scores.counts())).tolist()
    classes = {name: None if math.isnan(value) else value for name, value in zip(pictures.classes, values, strict=True)}
    del metrics["skipped"]  # steps of a training
    from_main(lambda: write_report(config, metrics | {"iou": classes}, device, dtype))
    for name, share in classes.items():
        print(f"{shorten([name]):<16}IoU " + (" in no image" if share is None else f"{share:6.2f}"))
    print(f" * {show_scores(metrics, config.model_num_classes, 3)} ({metrics['images']} images)")


def write_report(config: ModuleType, metrics: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
    """Write results/<exp_name>/test.json, whole or not at all: the scores, and what was measured with what."""
    report = metrics | {
        "weights": config.model_weights_path,
        "weights_sha256": hash_file(Path(config.model_weights_path)),
        "image_size": config.image_size,
        "output_stride": config.model_output_stride,
        "precision": precision_name(config.precision, dtype),
        "device": str(device),
        "torch": torch.__version__,
    }
    path = Path("results", config.exp_name, "test.json")
    write_atomically(path, lambda file: file.write(f"{json.dumps(report, indent=2)}\n".encode()))


if __name__ == "__main__":
    with user_errors(config_name="segmentation/config.py"):
        from segmentation import config

        main(config)
