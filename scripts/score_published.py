# SPDX-License-Identifier: Apache-2.0
"""Score the published weights that are here on ImageNet's validation set, beside the published accuracies.

    python3 scripts/score_published.py --images data/ImageNet_1K/ILSVRC2012_img_val

takes the files that scripts/download_weights.py wrote into results/pretrained_models, each at its own image size and
with its own width, padding, batch-norm epsilon, mean and deviation, and measures as test.py does. The scores are kept
in a JSON file after each network: a command that was stopped goes on with the next. A network is scored again when its
file, the images (by their number and names), the kind of device or the precision are others. Differences are in
hundredths of a per cent, which is 5 of the 50,000 images; docs/published.md says where they come from.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import os
import signal
from pathlib import Path

import numpy as np
import torch

from core.plurals import counted
from core.settings import PRECISIONS, is_device, precision_name
from downloading.comparison import Comparison, compare, compare_again, comparison_table, describe_reach
from downloading.scoring import (
    KeptScores,
    Means,
    describe_images,
    describe_measurement,
    find_published,
    open_images,
    score,
)
from shared.command_line import REPOSITORY, OneLineParser, at_least
from utils import check_workers, choose_dtype, setup_runtime, user_errors

LARGEST_SIZE = 224  # pixels
NUM_IMAGES, NUM_CLASSES = 50_000, 1_000  # of ImageNet's validation set


def main() -> None:
    arguments = parse_arguments()
    device = setup_runtime(0, arguments.device, arguments.precision)
    dtype = choose_dtype(arguments.precision, device)
    check_workers(arguments.workers, arguments.batch_size, LARGEST_SIZE, num_loaders=1)
    precision = precision_name(arguments.precision, dtype)
    means = Means(device, dtype, precision, arguments.batch_size, arguments.workers)
    dataset = open_images(arguments.images, LARGEST_SIZE)
    for note in dataset.notes:
        print(note)
    doubt = describe_doubt(arguments.images, len(dataset), len(np.unique(dataset.targets)))
    print(doubt, end="")
    comparisons = score_all(arguments, describe_images(dataset), means)
    print(f"\n{comparison_table(comparisons)}\n\nBeside the published figures, {describe_reach(comparisons)}")
    if again := [one for one in map(compare_again, comparisons) if one]:
        print(f"\nThe same files as Keras measured them, with a centre crop:\n\n{comparison_table(again)}\n")
        print(f"Beside the figures of Keras, {describe_reach(again)}")
    print(doubt, end="")


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of <class>/<image>")
    weights, results = REPOSITORY / "results/pretrained_models", REPOSITORY / "results/published.json"
    parser.add_argument("--weights", type=Path, default=weights, help="folder (default: results/pretrained_models)")
    parser.add_argument("--results", type=Path, default=results, help="JSON file (default: results/published.json)")
    workers = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    parser.add_argument("--workers", type=at_least(0), default=workers, help=f"of the loader (default: {workers})")
    parser.add_argument("--batch-size", type=at_least(1), default=64, help="images (default: 64)")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help=f"cpu, cuda or cuda:N (default: {device})")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="default: float32, as the published figures need"
    )
    arguments = parser.parse_args()
    if not is_device(arguments.device):
        parser.error(f"--device {arguments.device}: expected cpu, cuda or cuda:N")
    num_gpus = torch.cuda.device_count()
    if arguments.device != "cpu" and (torch.device(arguments.device).index or 0) >= num_gpus:
        parser.error(f"--device {arguments.device}: torch sees {num_gpus} GPUs; name another, or cpu")
    return arguments


def describe_doubt(folder: Path, num_images: int, num_classes: int) -> str:
    """A line where the images are not those of the published figures; else nothing."""
    if (num_images, num_classes) == (NUM_IMAGES, NUM_CLASSES):
        return ""
    images, classes = counted(num_images, "image"), counted(num_classes, "class", "classes")
    return (
        f"{folder}: {images} of {classes}, not the {NUM_IMAGES:,} of {NUM_CLASSES:,} of ImageNet's validation "
        "set: the figures are not comparable with the published ones.\n"
    )


def score_all(arguments: argparse.Namespace, images: dict[str, object], means: Means) -> list[Comparison]:
    """Score each file, or take what is kept of it; prints a line for each."""
    found, kept = find_published(arguments.weights), KeptScores(arguments.results)
    comparisons = []
    for number, (path, published) in enumerate(found, start=1):
        print(f"{published.name} ({number} of {len(found)}, {path.name}) ...", flush=True)
        measured = describe_measurement(path, images, means)
        scores = kept.get(path, measured)
        earlier = " (scored earlier)" if scores else ""
        if scores is None:
            kept.write()  # before scoring, which takes minutes
            scores = score(path, published, arguments.images, means)
            kept.put(path, measured, scores)
        comparisons.append(compare(published, scores))
        top1, top5 = comparisons[-1].hundredths()
        print(
            f"{published.name}: top-1 {scores['acc1']:.3f} %, top-5 {scores['acc5']:.3f} %, {top1:+d} and {top5:+d} "
            f"hundredths from the published{earlier}.",
            flush=True,
        )
    return comparisons


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends the workers like Ctrl-C
    with user_errors("score_published.py: interrupted; the networks that were finished are kept"):
        main()
