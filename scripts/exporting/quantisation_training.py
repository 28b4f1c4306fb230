# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning with simulated int8, by train.py's own loop, where quantising afterwards loses too much."""

import logging
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType

import torch
from torch import Tensor, nn

import train
from core.class_names import name_classes
from core.exported_files import hash_file
from core.folders import list_classes
from core.network_weights import create_network, load_trained_network, refuse_folded
from core.processes import num_processes
from core.settings import config_lines
from core.weights_files import read_checkpoint
from exporting.formats import require
from exporting.images import BATCH, Images, calibration_images
from exporting.quantisation_simulation import SimulatedInt8, simulating_graph
from imgproc import normalize

# A tenth of the epochs at a hundredth of the peak rate: weights that are trained already have to move by a quantum.
# The authors of such training fine-tune at rates this low, too (arXiv:1806.08342, section 3.2).
EPOCHS_SHARE, RATE_SHARE = 0.1, 0.01


def training_config(config: ModuleType) -> ModuleType:
    """config.py for the fine-tuning: an experiment of its own for these weights, which goes on where it was stopped."""
    changed = ModuleType("config")
    vars(changed).update(vars(config))
    digest = hash_file(Path(config.model_weights_path))[:8]
    vars(changed).update(
        exp_name=f"{config.exp_name[:87]}-qat-{digest}",  # at most 100 characters
        pretrained_model_weights_path=config.model_weights_path,
        resume="auto",
        epochs=math.ceil(EPOCHS_SHARE * config.epochs),
        model_lr=RATE_SHARE * config.model_lr,
        lr_warmup_epochs=0,
        model_dropout=0.0,
        precision="float32",  # bfloat16 has fewer bits than int8
        compile_model=False,
    )
    return changed


def trained_weights(config: ModuleType) -> Path:
    """The file that the fine-tuning leaves."""
    return Path("results", training_config(config).exp_name, "best.pth.tar")


def check_training(config: ModuleType) -> None:
    """Raise ValueError, before anything slow, where this cannot be done."""
    if config.mode != "train":
        line = config_lines(config).get("mode", "?")
        raise ValueError(f'config.py line {line}: --int8 qat trains, and mode = "{config.mode}"; set it to "train"')
    if num_processes() > 1:
        raise ValueError("--int8 qat trains in one process; start export.py without torchrun")
    require("executorch")  # whose quantiser is simulated


def train_quantised(config: ModuleType) -> None:
    """Fine-tune the network of config.model_weights_path; the result is a weights file like any other.

    Weights, average, checkpoints and resuming are those of train.py. What is validated computes as in int8.
    Raises: ValueError for folded weights, of which batch-norm cannot learn, and for classes that training would mix up.
    """
    check_training(config)
    changed = training_config(config)
    network = create_network(config)
    class_names = load_trained_network(network, config)
    refuse_folded(network.state_dict(), changed, read_checkpoint(config.model_weights_path))
    folders = list_classes(config.train_image_dir)
    classes = name_classes(config, class_names, config.train_image_dir) or folders
    if class_names is None and classes != folders:
        raise ValueError(
            f"{config.model_weights_path}: has no class names, and its classes are not in the order of the folders of "
            f"{config.train_image_dir}, in which --int8 qat would train them; use --int8 alone"
        )
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # about torchao's own types
    images = calibration_images(config, classes, None, None)
    graph = simulating_graph(network, normalised_batches(config, images), config.image_size)

    def simulate(plain: nn.Module, *_: torch.dtype) -> SimulatedInt8:
        return SimulatedInt8(plain, graph.to(next(plain.parameters()).device))

    train.main(changed, train.Forms(simulate, simulate))


def normalised_batches(config: ModuleType, images: Images) -> Iterator[Tensor]:
    """float32 [N, 3, S, S]."""
    mean, std = torch.tensor(config.model_mean_parameters), torch.tensor(config.model_std_parameters)
    for start in range(0, len(images.levels), BATCH):
        levels = torch.from_numpy(images.levels[start : start + BATCH])
        yield normalize(levels.permute(0, 3, 1, 2), mean, std)


def run_in_own_process(arguments: list[str]) -> int:
    """Run this Python with arguments, handing on SIGINT and SIGTERM, after which a training run takes time to save.

    Training changes how a process takes signals. Returns the status, 128 + its number for a signal.
    """
    child = subprocess.Popen([sys.executable, *arguments])

    def hand_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    status = child.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    return status if status >= 0 else 128 - status
