# SPDX-License-Identifier: Apache-2.0
"""The part busy of benchmark.py: training while another program keeps one core busy."""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from measuring.images import IMAGE_SIZE
from measuring.networks import left_out
from measuring.timing import Comparison, alternate
from measuring.whole_runs import TRAIN_BATCH, photo_runs


def busy(options: argparse.Namespace) -> Iterator[Comparison]:
    """train.py on the machine as it is, and beside another program: a ratio of 0.5 is twice as long."""
    with tempfile.TemporaryDirectory() as name:
        runs, images = photo_runs(options, Path(name))
        for kind, run in list(runs.items())[1:]:
            candidates: dict[str, Callable[[], object]] = {kind: run}
            candidates[f"{kind}, one core busy"] = partial(beside_another, run)
            title = f"{kind} beside another program, {images} photos, {IMAGE_SIZE} px, batch {TRAIN_BATCH}"
            yield Comparison(
                title,
                list(candidates),
                kind,
                alternate(candidates, options.rounds),
                images,
                unit="s",
                missing=left_out(),
            )


def beside_another(run: Callable[[], object]) -> None:
    """A run while a process does nothing but count."""
    with busy_core():
        run()


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
