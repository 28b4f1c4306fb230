# SPDX-License-Identifier: Apache-2.0
"""The part export of benchmark.py: what scripts/export.py writes, in its runtimes, and how long the writing takes."""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.datasets import ImageFolder

from core.folding import as_one_graph, folded
from core.plurals import counted
from core.runtimes import open_network
from measuring.forward_pass import BATCHES, CALLS, Forward, forward, our_network, torchvision_forward
from measuring.images import IMAGE_SIZE, photos
from measuring.networks import BASELINE, CPU_BATCH, random_images, trained_network
from measuring.timing import Comparison, alternate, in_own_process, repeated
from measuring.whole_runs import PLAIN, TEST_BATCH, flags_of, run, run_ours
from shared.command_line import REPOSITORY
from shared.small_training import copy_program, edit_config

FORMATS = ("onnx", "openvino", "executorch", "litert")
BATCH_FORMATS = ("onnx", "openvino")  # whose files take any batch
VERIFIED_IMAGES = 300


def export(options: argparse.Namespace) -> Iterator[Comparison]:
    """Write every format in float and int8, timing each, then run the files."""
    with tempfile.TemporaryDirectory() as name:
        program = ExportingProgram(options, Path(name))
        yield program.write_all()
        yield compare_runtimes(options, program, 1, CALLS, FORMATS)
        yield compare_runtimes(options, program, CPU_BATCH, BATCHES, BATCH_FORMATS)
        yield program.compare_scoring()


class ExportingProgram:
    """A copy of the program with weights, and images to calibrate and to score; the files it has written."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.root = options, folder / "program"
        self.images = photos(options, 1, folder).resolve()
        found = ImageFolder(self.images)
        self.num_images, num_classes = len(found), len(found.classes)
        self.weights = options.weights.resolve() if options.weights else folder / "weights.pth"
        if not options.weights:
            torch.save(torchvision.models.mobilenet_v2(num_classes=num_classes).state_dict(), self.weights)
        self.settings = {
            **{"test_image_dir": str(self.images), "model_weights_path": str(self.weights)},
            **{"model_num_classes": num_classes, "image_size": IMAGE_SIZE},
            **{"batch_size": TEST_BATCH, "num_workers": options.workers},
        }
        copy_program(self.root)
        for name in ("scripts", "data"):  # the latter for the names of ImageNet's classes
            shutil.copytree(REPOSITORY / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / ".venv-litert").symlink_to(REPOSITORY / ".venv-litert")  # whether or not it is there
        edit_config(self.root / "config.py", {"mode": "test", "exp_name": "Export", "device": "cpu", **self.settings})
        self.paths: dict[str, Path] = {}  # by "FORMAT float" and "FORMAT int8"
        self.missing: list[str] = []

    def write_all(self) -> Comparison:
        """Each format once: export, calibration and verification on 300 images."""
        times = {}
        for name in FORMATS:
            for kind in ("float", "int8"):
                began = time.perf_counter()
                if self.write(name, kind):
                    times[f"{name} {kind}"] = [time.perf_counter() - began]
        title = f"export and verification on {counted(min(VERIFIED_IMAGES, self.num_images), 'image')}, whole process"
        return Comparison(title, list(times), next(iter(times), ""), times, 1, "s", missing=self.missing)

    def write(self, name: str, kind: str) -> bool:
        """Write one file, whatever its accuracy; False and a line where it cannot be."""
        count = str(min(VERIFIED_IMAGES, self.num_images))
        words = [name, "--check", count]
        if kind == "int8":
            words += ["--int8", "--images", count, "--calibration", str(self.images), "--most-lost", "100"]
        try:
            run(["scripts/export.py", *words], self.root)
        except ChildProcessError as error:
            self.missing.append(f"{name} {kind}: {error}")
            return False
        ending = "-int8" if kind == "int8" else ""
        (path,) = (self.root / "results/Export/export").glob(f"*-{name}{ending}.[!jb]*")
        self.paths[f"{name} {kind}"] = path
        return True

    def compare_scoring(self) -> Comparison:
        """test.py on the int8 ONNX file as a whole process, against the plain evaluation of the weights."""
        options = self.options
        if options.reference_evaluation:
            plain = [str(options.reference_evaluation.resolve()), str(self.weights), str(self.images)]
        else:
            sizes = {"image_size": IMAGE_SIZE, "batch_size": TEST_BATCH, "workers": options.workers}
            plain = [PLAIN, "test", str(self.images), *flags_of(weights=self.weights, **sizes)]
        ours = {
            f"test.py, {name}": run_ours(
                self.root.parent / name, "test", self.settings | {"model_weights_path": str(self.paths[name])}
            )
            for name in self.paths
            if name.startswith("onnx")
        }
        times = alternate({"plain": partial(run, plain), **ours}, options.rounds)
        title = f"test.py from start to end, {counted(self.num_images, 'photo')}, batch {TEST_BATCH}"
        return Comparison(title, list(ours), "plain", times, self.num_images, unit="s", missing=self.missing)


def compare_runtimes(
    options: argparse.Namespace, program: ExportingProgram, batch: int, calls: int, formats: tuple[str, ...]
) -> Comparison:
    """The files in their runtimes beside torchvision and this program.

    A single image by the time of the process on one thread: runtimes with more threads let them wait by running, on
    the core of the candidate after it. A batch by the clock, on all threads.
    """
    threads = 1 if batch == 1 else torch.get_num_threads()
    builds: dict[str, tuple[Callable[..., Forward], tuple[object, ...]]] = {
        BASELINE: (torchvision_forward, (batch, calls)),
        "folded": (folded_forward, (batch, calls)),
    }
    if batch == 1:
        builds["one graph"] = (one_graph_forward, (calls,))
    files = {name: path for name, path in program.paths.items() if name.partition(" ")[0] in formats}
    builds |= {name: (exported_forward, (path, batch, calls, threads)) for name, path in files.items()}
    if batch == 1:
        actions = {name: in_own_process(process_seconds, *build) for name, build in builds.items()}
        times = alternate(actions, options.rounds, measure=lambda action: action())
    else:
        actions = {name: in_own_process(build, *arguments) for name, (build, arguments) in builds.items()}
        times = alternate(actions, options.rounds)
    title = f"exported files, batch {batch}, {counted(threads, 'thread')}, {IMAGE_SIZE} px" + (
        ", process time" * (batch == 1)
    )
    ours = [name for name in builds if name != BASELINE]
    return Comparison(title, ours, BASELINE, times, batch * calls, "ms", missing=program.missing)


def process_seconds(build: Callable[..., Forward], arguments: tuple[object, ...]) -> Callable[[], float]:
    """What runs an action on one thread of torch and returns the seconds that all threads of the process worked."""
    torch.set_num_threads(1)
    action = build(*arguments)

    def run() -> float:
        began = time.process_time()
        action()
        return time.process_time() - began

    return run


def folded_forward(batch: int, calls: int) -> Forward:
    images = random_images(batch).contiguous(memory_format=torch.channels_last)
    return repeated(forward(folded(our_network(trained_network())), images), calls)


def one_graph_forward(calls: int) -> Forward:
    images = random_images(1).contiguous(memory_format=torch.channels_last)
    return repeated(forward(as_one_graph(our_network(trained_network()), IMAGE_SIZE), images), calls)


def exported_forward(path: Path, batch: int, calls: int, threads: int) -> Forward:
    """A file in its runtime, on images as it takes them."""
    run = open_network(path, threads)
    images = random_images(batch).numpy()
    if path.suffix == ".tflite":  # takes levels, as its users have them
        images = np.random.default_rng(0).integers(0, 256, (batch, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    return repeated(lambda: torch.from_numpy(run(images)), calls)
