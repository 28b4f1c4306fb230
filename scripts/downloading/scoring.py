# SPDX-License-Identifier: Apache-2.0
"""The accuracy of published weights on a folder of images, as test.py measures it, and the file that keeps it."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from core.atomic_files import write_atomically
from core.folding import folded
from core.metrics import ClassScores
from core.network_weights import extract_weights, load_weights
from core.weights_files import read_checkpoint
from dataset import ImageDataset, create_batches
from downloading.fetching import sha256
from downloading.published import Published, published_weights
from downloading.records import ENDING, SYNSETS
from imgproc import eval_transform
from model import MobileNetV2
from utils import evaluate

PRINT_FREQUENCY = 100  # batches
Scores = dict[str, Any]


class Means(NamedTuple):
    """With what is scored; changes nothing but the speed and, by rounding, a few answers."""

    device: torch.device
    dtype: torch.dtype
    precision: str
    batch_size: int
    num_workers: int


def find_published(folder: Path) -> list[tuple[Path, Published]]:
    """The files of download_weights.py in a folder, in the order of the list, by the source that they record.

    Prints a line for each that cannot be read. Raises: FileNotFoundError if there are none.
    """
    by_source = {published.url: published for published in published_weights().values()}
    found = []
    for path in sorted(folder.glob(f"*{ENDING}")):
        try:
            source = read_checkpoint(path).get("source")
        except (ValueError, OSError) as error:
            print(f"Left out: {error}")
            continue
        if isinstance(source, str) and source in by_source:
            found.append((path, by_source[source]))
    if not found:
        raise FileNotFoundError(
            f"{folder}: no published weights in it; `python3 scripts/download_weights.py --list` shows what to fetch"
        )
    order = list(by_source)
    return sorted(found, key=lambda pair: order.index(pair[1].url))


def open_images(folder: Path, image_size: int) -> ImageDataset:
    """The images of a folder with ImageNet's classes, which may lack some."""
    classes = SYNSETS.read_text(encoding="ascii").split()
    transform = partial(eval_transform, image_size=image_size)
    return ImageDataset(folder, transform, num_classes=len(classes), classes=classes, may_lack_classes=True)


def score(path: Path, published: Published, images: Path, means: Means) -> Scores:
    """Accuracies in % of a file that write_published() wrote. Raises: ValueError, OSError and others for users."""
    network = MobileNetV2(width_mult=published.width, definition=published.definition)
    load_weights(network, extract_weights(read_checkpoint(path), path), path)
    network.to(means.device).to(memory_format=torch.channels_last)
    batches = create_batches(
        open_images(images, published.image_size),
        batch_size=means.batch_size,
        num_workers=means.num_workers,
        mean=published.mean,
        std=published.std,
        device=means.device,
    )
    return evaluate(
        folded(network, means.dtype),
        batches,
        ClassScores(len(batches.dataset.classes), means.device),
        device=means.device,
        dtype=means.dtype,
        print_frequency=PRINT_FREQUENCY,
        remedy=f"remove {path} and fetch it again, or choose --precision float32",
    )


def describe_images(dataset: ImageDataset) -> dict[str, Any]:
    """What tells a folder from another: how many images it has, and which by their names."""
    digest = hashlib.sha256()
    for part in (dataset.names, dataset.offsets, dataset.targets):
        digest.update(part.tobytes())
    return {"images": len(dataset), "images_sha256": digest.hexdigest()}


class KeptScores:
    """The scores so far, in a JSON file; each with what it was measured on and with.

    Raises: ValueError if the file is none of these, when it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = {}
        if path.exists():
            with path.open("rb") as file:
                content = file.read()
            try:
                rows = json.loads(content)
                self.rows = {name: {**row, "scores": {**row["scores"]}} for name, row in rows.items()}
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise ValueError(f"{path}: not the scores of score_published.py; remove it, or name another") from error

    def get(self, weights: Path, measured: dict[str, Any]) -> Scores | None:
        """The scores of a file, if nothing has changed since."""
        row = self.rows.get(weights.name, {})
        same = {name: row.get(name) for name in measured} == measured
        has_both = all(isinstance(row.get("scores", {}).get(name), float) for name in ("acc1", "acc5"))
        return row["scores"] if same and has_both else None

    def put(self, weights: Path, measured: dict[str, Any], scores: Scores) -> None:
        """Keep the scores of a file, at once and whole."""
        self.rows[weights.name] = measured | {"scores": scores}
        self.write()

    def write(self) -> None:
        """Raises: OSError if the file cannot be written."""
        content = json.dumps(self.rows, indent=2).encode()
        write_atomically(self.path, lambda file: file.write(content + b"\n"))


def describe_measurement(path: Path, images: dict[str, Any], means: Means) -> dict[str, Any]:
    """What a score depends on."""
    return images | {"weights_sha256": sha256(path), "device": means.device.type, "precision": means.precision}
