# SPDX-License-Identifier: Apache-2.0
"""Timing of candidates that do the same work: alternating runs, and their table."""

import contextlib
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

ROUNDS = 5
LIBRARIES = ("torch", "torchvision", "timm", "onnxruntime", "openvino", "opencv-python-headless", "pillow", "numpy")


def wall_seconds(action: Callable[[], object]) -> float:
    """The seconds of one run by the clock, the work that it has left to a GPU included."""
    began = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def alternate(
    candidates: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    measure: Callable[[Callable[[], Any]], float] = wall_seconds,
) -> dict[str, list[float]]:
    """Run the candidates in turn, `rounds` times, each round beginning with the next one: seconds of each run.

    A first round is not counted: it compiles, reads files and fills caches.
    """
    names = list(candidates)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            seconds = measure(candidates[name])
            if number >= 0:
                times[name].append(seconds)
    return times


def in_own_process(build: Callable[..., Callable[[], Any]], *arguments: object) -> Callable[[], Any]:
    """build(*arguments) as an action that runs in a new process, and there with malloc as torch leaves it.

    Within one process the candidates would change each other's speed: whether a large block comes from memory that is
    there already, or is paged in anew, depends on what has been freed before it.
    """
    context = multiprocessing.get_context("spawn")
    connection, other_end = context.Pipe()
    context.Process(target=serve, args=(other_end, build, arguments), daemon=True).start()
    other_end.close()

    def run() -> object:
        connection.send(None)
        return connection.recv()  # EOFError: the process has died, and has said why

    return run


def serve(connection: Connection, build: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> None:
    """Run the action each time that something arrives, until the other side goes away."""
    action = build(*arguments)
    with contextlib.suppress(EOFError):
        while True:
            connection.recv()
            connection.send(action())


def repeated(action: Callable[[], Any], times: int) -> Callable[[], Any]:
    """The action so many times in one run: a short one alone would drown in what else the machine does."""

    def run() -> object:
        for _ in range(times - 1):
            action()
        return action()

    return run


@dataclass
class Comparison:
    """Candidates that did the same work, ours among them, and one of them as the baseline."""

    title: str  # what is done, with batch and image size: "forward, batch 32, 224 px"
    ours: list[str]  # the candidates that are this program
    baseline: str  # the candidate to which the ratios relate
    times: dict[str, list[float]]  # seconds of each run of each candidate, from alternate()
    images: int  # in each run
    # "images/s", "ms" for the time of one image, "s" for the time of a run; of memory "MiB", which stand for its
    # seconds, or "images", of which the limit holds so many
    unit: str = "images/s"
    notes: dict[str, str] = field(default_factory=dict)  # what else is known of a candidate: "peak 3.1 GiB"
    missing: list[str] = field(default_factory=list)  # lines about candidates that could not run

    def figures(self, name: str) -> list[float]:
        """The runs of a candidate in the unit."""
        convert: Callable[[float], float] = {
            "images/s": lambda seconds: self.images / seconds,
            "ms": lambda seconds: 1000 * seconds / self.images,
            "s": lambda seconds: seconds,
            "MiB": lambda mebibytes: mebibytes,
            "images": lambda share: 1 / share,
        }[self.unit]
        return [convert(seconds) for seconds in self.times[name]]

    def ratios(self, name: str) -> list[float]:
        """How many times as fast as the baseline a candidate was, round by round."""
        return [base / own for base, own in zip(self.times[self.baseline], self.times[name], strict=True)]

    def table(self) -> str:
        """One line a candidate: median, spread, ratio and its spread."""
        width = max(map(len, self.times), default=0) + 2
        lines = [f"{self.title}   (medians of {len(self.times[self.baseline])}, lowest to highest)"]
        for name in self.times:
            figures, ratios = self.figures(name), self.ratios(name)
            spread = f"({min(figures):.4g} to {max(figures):.4g})"
            ratio = f"{statistics.median(ratios):6.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
            mark = "*" if name in self.ours else " "
            lines.append(
                f" {mark} {name:{width}} {statistics.median(figures):>9.4g} {self.unit} {spread:22} "
                f"{ratio}  {self.notes.get(name, '')}".rstrip()
            )
        return "\n".join(lines + [f"   {line}" for line in self.missing])

    def record(self) -> dict[str, Any]:
        """What goes into the report: everything, with medians and ratios."""
        medians = {name: statistics.median(self.figures(name)) for name in self.times}
        ratios = {name: statistics.median(self.ratios(name)) for name in self.times}
        return asdict(self) | {"median": medians, "ratio": ratios}


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, threads, GPU, versions."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "python": platform.python_version(),
        "versions": {name: version for name in LIBRARIES if (version := installed_version(name))},
    }


def processor_name() -> str:
    """The name that Linux gives the processor, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
