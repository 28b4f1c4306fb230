# SPDX-License-Identifier: Apache-2.0
"""A network of ten classes as export.py writes it, pictures, and what inference.py says of them."""

import atexit
import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from conftest import ROOT, Project
from PIL import Image
from torch import nn

from model import MobileNetV2

LABELS = ("blue", "green", "red", "apple", "Bär", "<b>car</b>", "dog & cat", "egg", "a name " * 9, "house")
Answers = list[tuple[str, float]]  # labels and percentages, likeliest first


class Exports:
    """A project with pictures, and the exports of its network at sizes of the caller's choice."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        shutil.copytree(ROOT / "scripts", root / "scripts")
        shutil.copy(ROOT / "figure/digit.png", root / "grey.png")
        (root / "labels.json").write_text(json.dumps({str(place): label for place, label in enumerate(LABELS)}))
        torch.save({"state_dict": lively_network().state_dict()}, root / "weights.pth")
        self.project.set(model_weights_path="weights.pth", class_label_file="labels.json", model_num_classes=10)
        photo = draw_photo()
        photo.save(root / "photo.jpg", quality=90)
        photo.crop((40, 90, 160, 180)).save(root / "small.png")  # is enlarged
        photo.resize((1400, 300)).save(root / "wide.png")
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        photo.save(root / "turned.jpg", quality=90, exif=exif)
        self.pictures = [root / name for name in ("grey.png", "photo.jpg", "small.png", "wide.png", "turned.jpg")]

    def export(self, folder: str, file_format: str, *options: str, **values: object) -> Path:
        """Write a file into results/FOLDER with other values in config.py. Returns its path."""
        self.project.set(exp_name=folder, **values)
        command = [sys.executable, "scripts/export.py", file_format, *options]
        environment = self.project.environment("train")
        environment.pop("PYTHONWARNINGS")  # of the exporters
        done = subprocess.run(command, cwd=self.project.root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        name = "onnx" if file_format == "onnx" else "pte"
        (path,) = (self.project.root / f"results/{folder}/export").glob(f"*.{name}")
        return path

    def answers_of_inference(self) -> dict[str, Answers]:
        """By the name of each picture, with the values of the last export."""
        printed = self.project.run_well("inference.py", *(path.name for path in self.pictures), mode="test")
        parts = re.split(r"^(\S+):\n", printed, flags=re.MULTILINE)[1:]
        return {name: read_answers(lines) for name, lines in zip(parts[::2], parts[1::2], strict=True)}


def read_answers(printed: str) -> Answers:
    lines = re.findall(r"^(.*?) +\(([\d.]+)%\)$", printed, re.MULTILINE)
    return [(label, float(percentage)) for label, percentage in lines]


def lively_network() -> nn.Module:
    """A small network whose answers depend on the picture, with gaps between the classes, and hardly on its noise."""
    torch.manual_seed(5)
    network = MobileNetV2(len(LABELS), width_mult=0.35)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.weight.copy_(module.weight.mean((2, 3), keepdim=True))  # trained networks do not amplify it
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(std=0.2)
        images = np.stack([np.asarray(draw_photo(seed).resize((96, 96))) for seed in range(32)])
        network.train()(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
        network.classifier[1].weight.normal_(std=0.08)
    return network.eval()


def draw_photo(seed: int = 0) -> Image.Image:
    """Soft light, hard edges, and noise as of a sensor: RGB, 500 x 375."""
    generator = np.random.default_rng(seed)
    light = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((500, 375), 3)
    pixels = np.asarray(light, dtype=np.int16) + generator.integers(-12, 13, (375, 500, 3))
    for _ in range(6):
        left, top = generator.integers(0, 400), generator.integers(0, 300)
        pixels[top : top + 90, left : left + 110] = generator.integers(0, 256, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@functools.cache
def create_exports() -> Exports:
    """The one of this process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Exports(Path(folder.name).resolve() / "project")
