# SPDX-License-Identifier: Apache-2.0
"""Measure what a large folder costs: time to list it without and with its index file, memory of dataset and workers.

    python3 scripts/measure_scale.py [--images 200000] [--workers 4]

makes that many small PNG files in 1,000 class folders of a temporary folder, and removes them at the end. The line
for ImageNet-1K is a straight line through the measured sizes.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from core.image_index import index_path, read_index, scan_folder, write_index
from dataset import CPUPrefetcher, ImageDataset, create_batches
from imgproc import train_transform
from shared.command_line import OneLineParser
from shared.processes import private_memory
from utils import setup_runtime, user_errors

NUM_CLASSES = 1000
IMAGENET_IMAGES = 1_281_167
TRANSFORM = partial(
    train_transform,
    image_size=32,
    crop_scale=(0.08, 1.0),
    flip_probability=0.5,
    trivial_augment=False,
    erasing_probability=0.0,
    erasing_value=(0, 0, 0),
)


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000, help="files to make (default 200,000)")
    parser.add_argument("--workers", type=int, default=4, help="loader workers (default 4)")
    arguments = parser.parse_args()
    setup_runtime(0, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "train")
        measure_listing(root, [arguments.images * quarter // 4 for quarter in (1, 2, 3, 4)])
        dataset = measure_dataset(root)
        measure_workers(dataset, arguments.workers)


def measure_listing(root: Path, sizes: list[int]) -> None:
    """Time scan_folder and read_index at growing sizes, and fit a line."""
    print(f"{'images':>9} {'listed in s':>12} {'with index':>11} {'ratio':>6} {'index file MB':>14}   (medians of 5)")
    listed, indexed, made = [], [], 0
    for size in sizes:
        add_images(root, made, size)
        made = size
        write_index(root)
        listed.append(median_time(lambda: scan_folder(str(root))))
        indexed.append(median_time(lambda: read_index(root)))
        megabytes, ratio = index_path(root).stat().st_size / 1e6, indexed[-1] / listed[-1]
        print(f"{size:>9,} {listed[-1]:>12.3f} {indexed[-1]:>11.4f} {ratio:>6.1%} {megabytes:>14.1f}")
    fits = [np.polyval(np.polyfit(sizes, times, 1), IMAGENET_IMAGES) for times in (listed, indexed)]
    print(f"{IMAGENET_IMAGES:>9,} {fits[0]:>12.3f} {fits[1]:>11.4f} {fits[1] / fits[0]:>6.1%}   (fit)")


def add_images(root: Path, begin: int, end: int) -> None:
    """Write image files number `begin` to `end`, named as ImageNet's are."""
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = cv2.imencode(".png", image)[1].tobytes()
    for number in tqdm(range(begin, end), desc="files", disable=None, leave=False):
        name = f"n{number % NUM_CLASSES:08}"
        if number < NUM_CLASSES:
            (root / name).mkdir(parents=True)
        (root / name / f"{name}_{number // NUM_CLASSES}.JPEG").write_bytes(data)


def median_time(action: Callable[[], object]) -> float:
    """Seconds, median of 5."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure_dataset(root: Path) -> ImageDataset:
    """Build the dataset, report its memory and its start with the index file and without."""

    def build() -> ImageDataset:
        return ImageDataset(root, TRANSFORM, num_classes=NUM_CLASSES, seed=0)

    with_index = median_time(build)
    index_path(root).unlink()
    without = median_time(build)
    dataset = build()
    arrays = dataset.names.nbytes + dataset.offsets.nbytes + dataset.targets.nbytes
    projected = arrays / len(dataset) * IMAGENET_IMAGES
    print(f"dataset of {len(dataset):,} images: built in {without:.3f} s, with the index file in {with_index:.4f} s;")
    print(f"  it takes {arrays / 1e6:.1f} MB; {IMAGENET_IMAGES:,} images take {projected / 1e6:.0f} MB")
    return dataset


def measure_workers(dataset: ImageDataset, num_workers: int) -> None:
    """Run one epoch and report how much private memory the workers gained from its first batches to its end."""
    batches = create_batches(
        dataset, batch_size=256, num_workers=num_workers, mean=[0.5] * 3, std=[0.5] * 3, device=torch.device("cpu")
    )
    first, last = run_epoch(batches)
    growth = [(last[worker] - first[worker]) / 1e6 for worker in first]
    print(f"{num_workers} workers over an epoch of {len(dataset):,} images: private memory grew by", end=" ")
    print(", ".join(f"{megabytes:.1f}" for megabytes in growth), "MB")


def run_epoch(batches: CPUPrefetcher) -> tuple[dict[int, int], dict[int, int]]:
    """The private memory of each worker, by process number, early in an epoch and at its end; bytes."""
    first = last = {}
    for number, _ in enumerate(tqdm(batches, desc="batches", disable=None, leave=False)):
        if number == 8:
            first = worker_memory()
        if number == len(batches) - 1:
            last = worker_memory()
    return first, last


def worker_memory() -> dict[int, int]:
    return {pid: private_memory(pid) for worker in multiprocessing.active_children() if (pid := worker.pid)}


if __name__ == "__main__":
    with user_errors():
        main()
