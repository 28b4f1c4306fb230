# SPDX-License-Identifier: Apache-2.0
"""Top-1 and top-5 error of config.model_weights_path on config.test_image_dir: MODE=test python3 test.py."""

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import csv
import io
import json
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy
import torch
from torch import Tensor, nn

from core.atomic_files import write_atomically
from core.class_names import name_classes
from core.exported_files import hash_file
from core.metrics import ClassScores, likeliest, show_scores
from core.plurals import counted
from core.processes import from_main, gather_batches, joined_processes
from core.runtimes import ExportedNetwork
from core.score_reports import print_classes, write_scores
from core.settings import check_config, precision_name
from core.trained_networks import find_device, load_network, load_task_network
from dataset import CPUPrefetcher, ImageDataset, create_batches
from imgproc import eval_transform
from utils import (
    check_workers,
    choose_dtype,
    compile_network,
    evaluate,
    fastest_form,
    loader_options,
    remedy_for_weights,
    setup_runtime,
    user_errors,
)

if TYPE_CHECKING:
    from core.tasks import Task  # which imports what trains


def main(config: ModuleType, task: "Task | None" = None) -> None:
    check_config(config, "test", task.rules if task else None)
    device = setup_runtime(config.seed, find_device(config), config.precision, config.deterministic)
    with joined_processes(device):
        if task:
            test_task(config, device, task)
        else:
            test(config, device)


def test(config: ModuleType, device: torch.device) -> None:
    """Score the images, each process its batches; write predictions.csv and test.json."""
    check_workers(config.num_workers, config.batch_size, config.image_size, num_loaders=1)
    dtype = choose_dtype(config.precision, device)
    network, class_names = load_network(config)
    class_names = name_classes(config, class_names, config.test_image_dir)
    as_levels = isinstance(network, ExportedNetwork) and network.takes_levels
    batches = create_test_batches(config, device, class_names, as_levels)
    dataset = batches.dataset
    if not isinstance(network, ExportedNetwork):
        network = fastest_form(network, config, device, len(dataset), config.batch_size)
    print(f"Load `{config.model_arch_name}` model weights `{Path(config.model_weights_path).resolve()}` successfully.")
    num_classes = len(numpy.unique(dataset.targets))
    where = describe_arithmetic(network, config, device, dtype)
    images, classes = counted(len(dataset), "image"), counted(num_classes, "class", "classes")
    print(f"{images} of {classes} at {config.image_size} pixels; {where}.")
    for note in dataset.notes:
        print(note)

    report = describe_test(config, network, device, dtype)
    best_classes = BestClasses()
    metrics = evaluate(
        network,
        batches,
        ClassScores(config.model_num_classes, device),
        device=device,
        dtype=dtype,
        print_frequency=config.test_print_frequency,
        on_logits=best_classes.add,
        remedy=remedy_for_weights(config, dtype),
    )
    best_classes.gather()
    results = Path("results", config.exp_name)
    digest = from_main(partial(write_predictions, results / "predictions.csv", dataset, best_classes))
    metrics |= {"err1": 100 - metrics["acc1"], "err5": 100 - metrics["acc5"]}
    from_main(partial(write_report, results / "test.json", metrics | report | {"predictions_sha256": digest}))
    print(f" * {show_scores(metrics, config.model_num_classes, 3)} ({counted(int(metrics['images']), 'image')})")


def test_task(config: ModuleType, device: torch.device, task: "Task") -> None:
    """Score the pictures of a task, each process its batches; write test.json."""
    dtype = choose_dtype(config.precision, device)
    network, class_names = load_task_network(task.create_network, config, device)
    pictures = task.open_split(config, "test", class_names)
    form = task.score_form(network, dtype)
    check_workers(config.num_workers, config.batch_size, config.image_size, 1, pictures.target_bytes)
    if config.compile_model:
        compile_network(form, device)
    batches = create_batches(pictures, **loader_options(config, device))
    print(f"Load `{config.model_arch_name}` model weights `{Path(config.model_weights_path).resolve()}` successfully.")
    size, where = f"{config.image_size} x {config.image_size} pixels", name_arithmetic(config, device, dtype)
    print(f"{counted(len(pictures), 'image')} of {size}; {where}.")
    scores = task.create_scores(config, network, device)
    metrics = evaluate(
        form,
        batches,
        scores,
        device=device,
        dtype=dtype,
        print_frequency=config.test_print_frequency,
        remedy=remedy_for_weights(config, dtype),
    )
    report = task.report(config, scores, pictures.classes)
    from_main(lambda: write_scores(config, metrics | report, device, dtype))
    print_classes(task.title, report[task.title.lower()], "in no picture")
    print(f" * {show_scores(metrics, config.model_num_classes, 3)} ({counted(int(metrics['images']), 'image')})")


def describe_arithmetic(network: nn.Module, config: ModuleType, device: torch.device, dtype: torch.dtype) -> str:
    """What computes, and in which precision."""
    if not isinstance(network, ExportedNetwork):
        return name_arithmetic(config, device, dtype)
    instead = "" if config.device == "cpu" else f", as exported files do, not {config.device}"
    return f"{device}{instead}, {network.precision} in {network.runtime} {network.version}"


def name_arithmetic(config: ModuleType, device: torch.device, dtype: torch.dtype) -> str:
    """The device and the precision: "tf32" is no dtype."""
    return f"{device}, {'tf32' if config.precision == 'tf32' else dtype}"


def create_test_batches(
    config: ModuleType, device: torch.device, class_names: list[str] | None, as_levels: bool
) -> CPUPrefetcher:
    """The images of the test folder, in order; it may lack some of the classes."""
    dataset = ImageDataset(
        config.test_image_dir,
        partial(eval_transform, image_size=config.image_size),
        num_classes=config.model_num_classes,
        classes=class_names,
        may_lack_classes=True,
        apply_orientation=config.apply_orientation,
    )
    return create_batches(dataset, **loader_options(config, device), as_levels=as_levels)


class BestClasses:
    """The five most likely classes of every image, batch by batch: indices and probabilities."""

    def __init__(self) -> None:
        self.batches: list[tuple[Tensor, Tensor]] = []  # int64 [N, 5] and float [N, 5], on the CPU

    def add(self, logits: Tensor) -> None:
        """logits: float [N, C]."""
        classes = likeliest(logits)
        self.batches.append((classes.cpu(), logits.softmax(dim=1).gather(1, classes).cpu()))

    def gather(self) -> None:
        """Collect the batches of all processes in process 0, in the order of the images."""
        self.batches = gather_batches(self.batches)

    def rows(self) -> Iterator[tuple[list[int], list[float]]]:
        """The classes and their probabilities of each image."""
        for indices, probabilities in self.batches:
            yield from zip(indices.tolist(), probabilities.tolist(), strict=True)


def write_predictions(path: Path, dataset: ImageDataset, best: BestClasses) -> str:
    """One row an image: file, true class, then the predicted classes with their probabilities, likeliest first.

    Returns the SHA-256 of the file.
    """
    count = best.batches[0][0].shape[1]
    header = ["file", "true_class", *(f"{name}_{k + 1}" for k in range(count) for name in ("class", "probability"))]

    def rows() -> Iterable[list[str]]:
        for index, (classes, probabilities) in enumerate(best.rows()):
            row = [dataset.path(index), dataset.classes[dataset.targets[index]]]
            for predicted, probability in zip(classes, probabilities, strict=True):
                row += [dataset.classes[predicted], f"{probability:.6f}"]
            yield row

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, newline="", encoding="utf-8", errors="surrogateescape")
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows())
        text.detach()  # which leaves the file open, and all of the text in it

    write_atomically(path, write)
    return hash_file(path)


def describe_test(config: ModuleType, network: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What is measured, on what, with what: in test.json beside the figures."""
    is_exported = isinstance(network, ExportedNetwork)
    versions = {library.__name__: library.__version__ for library in (torch, numpy, cv2)}
    versions["torchvision"] = metadata.version("torchvision")  # not imported: that takes a second
    return {
        "weights": config.model_weights_path,
        "weights_sha256": hash_file(Path(config.model_weights_path)),
        "data": config.test_image_dir,
        "image_size": config.image_size,
        "apply_orientation": config.apply_orientation,
        "precision": network.precision if is_exported else precision_name(config.precision, dtype),
        "runtime": network.runtime if is_exported else "torch",
        "device": find_device(config),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "versions": versions | ({network.package: network.version} if is_exported else {}),
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_atomically(path, lambda file: file.write(f"{json.dumps(report, indent=2)}\n".encode()))


if __name__ == "__main__":
    with user_errors():
        import config

        main(config)
