# SPDX-License-Identifier: Apache-2.0
"""The start-up in the part latency of benchmark.py: inference.py as a whole process, train.py to its first step."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from measuring.images import IMAGE_SIZE, write_noise
from measuring.networks import NUM_CLASSES, trained_network
from measuring.timing import Comparison, alternate
from shared.small_training import copy_program, edit_config


def compare_start_up(options: argparse.Namespace) -> Comparison:
    """inference.py on one picture as a process, against importing its two libraries and reading the weights."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        create_inference_project(root)
        weights = "weights.pth"
        baseline = f"import torch, cv2; torch.load('{weights}', weights_only=True)"
        candidates = {
            "import torch, cv2; read the weights": partial(run_python, root, "-c", baseline),
            "inference.py": partial(run_python, root, "inference.py", "image.jpg"),
        }
        times = alternate(candidates, options.rounds)
    names = list(candidates)
    return Comparison("start-up: inference.py on one picture, the whole process", names[1:], names[0], times, 1, "s")


def create_inference_project(root: Path) -> None:
    """The program with the weights of ImageNet's size and a picture."""
    copy_program(root)
    values = {"image_size": IMAGE_SIZE, "model_num_classes": NUM_CLASSES, "device": "cpu"}
    edit_config(root / "config.py", values | {"model_weights_path": "weights.pth"})
    classes = [str(index) for index in range(NUM_CLASSES)]
    torch.save({"state_dict": trained_network().state_dict(), "class_names": classes}, root / "weights.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    cv2.imwrite(str(root / "image.jpg"), pixels)


def run_python(root: Path, *arguments: str) -> None:
    """A new process in the folder. Raises: subprocess.CalledProcessError."""
    subprocess.run([sys.executable, *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)


def compare_first_step(options: argparse.Namespace) -> Comparison:
    """train.py as it is shipped, at 32 pixels, until it tells of its first step, against importing torch."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_program(root)
        images = str(write_noise(root / "images", 640, (32, 32), ".png", noise_share=1))
        values = {"train_image_dir": images, "valid_image_dir": images, "num_workers": options.workers}
        edit_config(root / "config.py", values | {"device": "cpu", "train_print_frequency": 1, "mode": "train"})
        candidates = {
            "import torch": partial(run_python, root, "-c", "import torch"),
            "train.py, its first step": partial(run_to_first_step, root),
        }
        times = alternate(candidates, options.rounds)
    names = list(candidates)
    return Comparison("start-up: train.py until its first step is done, 32 px", names[1:], names[0], times, 1, "s")


def run_to_first_step(root: Path) -> None:
    """Raises: ChildProcessError if it ends before."""
    shutil.rmtree(root / "samples", ignore_errors=True)
    (temporary := root / "temporary").mkdir(exist_ok=True)  # what a killed run leaves goes with the folder
    training = subprocess.Popen(
        [sys.executable, "train.py"],
        cwd=root,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        if not any(line.startswith("Epoch: [1][") for line in training.stdout or ()):
            raise ChildProcessError("train.py ended before its first step")
    finally:
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()
