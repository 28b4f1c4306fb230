# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning with simulated int8, by train.py's own loop, where quantising afterwards loses too much."""

import hashlib
import json
import logging
import math
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType, ModuleType

import torch
from torch import nn

import train
from core.atomic_files import write_atomically
from core.class_names import name_classes
from core.exported_files import hash_file
from core.folders import list_classes
from core.network_weights import create_network, load_trained_network, refuse_folded
from core.processes import num_processes
from core.settings import SHARED_RULES, TRAIN_RULES, config_lines, to_plain
from core.weights_files import read_checkpoint
from exporting.equalisation import equalise, raise_channels
from exporting.formats import require
from exporting.images import USUAL_COUNT, Images, calibration_images
from exporting.quantisation_simulation import SimulatedInt8, simulating_graph
from imgproc import normalize

# A tenth of the epochs at a hundredth of the peak rate: trained weights have to move by a step of int8. Tried on one
# network alone, that of docs/deploy.md.
EPOCHS_SHARE, RATE_SHARE = 0.1, 0.01

# Of config.py: what changes no weight.
UNUSED = {
    *("mode", "exp_name", "device", "num_workers", "cache_images", "resume", "keep_checkpoints", "precision"),
    *("checkpoint_every_minutes", "train_print_frequency", "valid_print_frequency", "compile_model"),
    *("frozen_blocks", "cached_views", "backbone_lr_factor"),
    *("model_weights_path", "inference_image_path", "class_label_file", "pretrained_model_weights_path"),
}


def training_config(config: ModuleType, folder: Path | None = None, count: int | None = None) -> ModuleType:
    """config.py for the fine-tuning: an experiment of its own, which goes on where it was stopped.

    Its name has a hash of the weights and of what the training depends on: with others it is another experiment.
    `folder`, `count`: of the images of its start, as for calibration_images().
    """
    changed = ModuleType("config")
    vars(changed).update(vars(config))
    used = {name: to_plain(getattr(config, name)) for name in (*SHARED_RULES, *TRAIN_RULES) if name not in UNUSED}
    images = [str(folder.resolve())] if folder else []
    images += [str(count)] if count and count != USUAL_COUNT else []
    content = json.dumps([used, hash_file(Path(config.model_weights_path)), *images], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    vars(changed).update(
        exp_name=f"{config.exp_name[:87]}-qat-{digest}",  # at most 100 characters
        pretrained_model_weights_path=config.model_weights_path,
        resume="auto",
        epochs=math.ceil(EPOCHS_SHARE * config.epochs),
        model_lr=RATE_SHARE * config.model_lr,
        lr_warmup_epochs=0,
        model_dropout=0.0,
        frozen_blocks=0,  # int8 has to be learnt everywhere
        cached_views=0,
        backbone_lr_factor=1.0,
        precision="float32",  # bfloat16 has fewer bits than int8
        compile_model=False,
    )
    return changed


def trained_weights(config: ModuleType, folder: Path | None, count: int | None) -> Path:
    """The file that the fine-tuning leaves; arguments as of training_config()."""
    return Path("results", training_config(config, folder, count).exp_name, "best.pth.tar")


def check_training(config: ModuleType) -> None:
    """Raise ValueError, before anything slow, where this cannot be done."""
    if config.mode != "train":
        line = config_lines(config).get("mode", "?")
        raise ValueError(f'config.py line {line}: --int8 qat trains, and mode = "{config.mode}"; set it to "train"')
    if num_processes() > 1:
        raise ValueError("--int8 qat trains in one process; start export.py without torchrun")
    require("executorch")  # whose quantiser is simulated


def train_quantised(config: ModuleType, folder: Path | None, count: int | None) -> None:
    """Fine-tune the network of config.model_weights_path; the result is a weights file like any other.

    `folder`, `count`: of the images that tell the ranges of the channels at the start, as of training_config().
    Weights, average, checkpoints and resuming are those of train.py. What is validated computes as in int8.
    Raises: ValueError for folded weights, of which batch-norm cannot learn, and for classes that training would mix up.
    """
    check_training(config)
    changed = training_config(config, folder, count)
    network = create_network(config)
    class_names = load_trained_network(network, config)
    checkpoint = read_checkpoint(config.model_weights_path)
    refuse_folded(network.state_dict(), changed, checkpoint)
    classes = find_classes(config, class_names)
    network = with_like_channels(config, network.eval(), calibration_images(config, classes, folder, count))
    start = Path("results", changed.exp_name, "start.pth.tar")
    record = {name: value for name, value in checkpoint.items() if name in (*SHARED_RULES, "class_names")}
    write_atomically(start, lambda file: torch.save(record | {"state_dict": network.state_dict()}, file))
    vars(changed)["pretrained_model_weights_path"] = str(start)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # about torchao's own types
    graph = simulating_graph(network, config.image_size)

    def simulate(plain: nn.Module, *_: object) -> SimulatedInt8:
        return SimulatedInt8(plain, graph.to(next(plain.parameters()).device))

    train.main(changed, train.CLASSIFIER._replace(train_form=simulate, score_form=simulate))


def find_classes(config: ModuleType, class_names: list[str] | None) -> list[str]:
    """The classes in the order of the logits. Raises: ValueError if train.py would train them in another one."""
    folders = list_classes(config.train_image_dir)
    classes = name_classes(config, class_names, config.train_image_dir) or folders
    if class_names is None and classes != folders:
        raise ValueError(
            f"{config.model_weights_path}: has no class names, and its classes are not in the order of the folders of "
            f"{config.train_image_dir}, in which --int8 qat would train them; use --int8 alone"
        )
    return classes


def with_like_channels(config: ModuleType, network: nn.Module, images: Images) -> nn.Module:
    """The network with channels of like range, so far as they can be made so: training does the rest."""
    mean, std = torch.tensor(config.model_mean_parameters), torch.tensor(config.model_std_parameters)
    inputs = normalize(torch.from_numpy(images.levels).permute(0, 3, 1, 2), mean, std)
    return equalise(raise_channels(network, inputs), inputs)


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
