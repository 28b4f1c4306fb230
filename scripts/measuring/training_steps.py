# SPDX-License-Identifier: Apache-2.0
"""The part train of benchmark.py: training steps, on random data and fed by the loader."""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from core.checkpoints import TrainState
from core.plurals import counted
from core.reports import SilentWriter
from dataset import CPUPrefetcher
from measuring.images import IMAGE_SIZE, link_images, photos, store_small
from measuring.loader import our_batches
from measuring.networks import (
    BASELINE,
    CPU,
    CPU_BATCH,
    GPU,
    GPU_BASELINE,
    GPU_BATCHES,
    NUM_CLASSES,
    Action,
    compiles,
    kind,
    left_out,
    peak_memories,
    precisions,
    random_images,
)
from measuring.timing import Comparison, alternate, in_own_process
from shared.small_training import CountedImages
from train import create_train_state, train_one_epoch
from utils import autocast, setup_runtime

STEPS, FED_STEPS = {"cpu": 5, "cuda": 20}, {"cpu": 10, "cuda": 40}  # training steps in a run


def train(options: argparse.Namespace) -> Iterator[Comparison]:
    """Training steps: ours with all that train.py does in a step, torchvision's with all that its script does."""
    for device, batch in [(CPU, CPU_BATCH), *((GPU, batch) for batch in GPU_BATCHES if torch.cuda.is_available())]:
        yield compare_steps(options, device, batch)
        yield compare_fed_steps(options, device, batch)


def compare_steps(options: argparse.Namespace, device: torch.device, batch: int) -> Comparison:
    """Ours in the precisions of the device, called directly and compiled, against torchvision's."""
    torch._dynamo.reset()
    steps, missing = STEPS[device.type], left_out(device)
    if device.type == "cpu":
        others = {BASELINE: in_own_process(settled_torchvision_steps, batch, steps)}
    else:
        others = {
            GPU_BASELINE: torchvision_steps(GPU, batch, steps, torch.float16),
            "torchvision, eager float16 autocast NHWC": torchvision_steps(
                GPU, batch, steps, torch.float16, torch.channels_last
            ),
        }
    ours = dict(our_training(device, batch, steps, missing))
    candidates, notes = others | ours, {}
    if device.type == "cuda":
        notes = peak_memories(candidates, missing)
        candidates = {name: action for name, action in candidates.items() if name in notes}
    times = alternate(candidates, options.rounds)
    title = f"training step on the {kind(device)}, batch {batch}, {IMAGE_SIZE} px"
    kept = [name for name in ours if name in candidates]
    return Comparison(title, kept, next(iter(others)), times, batch * steps, "images/s", notes, missing)


def random_batch(device: torch.device, batch: int) -> tuple[Tensor, Tensor]:
    """random_images() and their classes, int64 [N]."""
    targets = torch.randint(NUM_CLASSES, (batch,), generator=torch.Generator().manual_seed(0))
    return random_images(batch, device), targets.to(device)


def torchvision_steps(
    device: torch.device,
    batch: int,
    steps: int,
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Action:
    """Steps as torchvision's reference script (references/classification/train.py) does them."""
    images, targets = random_batch(device, batch)
    images = images.contiguous(memory_format=memory_format)
    network = torchvision.models.mobilenet_v2().to(device, memory_format=memory_format)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.045, momentum=0.9, weight_decay=4e-5)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def run() -> None:
        network.train()
        for _ in range(steps):
            with autocast(device, dtype):
                logits = network(images)
                loss = criterion(logits, targets)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            best = logits.topk(5).indices == targets[:, None]  # its metrics, read in every step
            loss.item(), best[:, :1].sum().item(), best.sum().item()

    return run


def settled_torchvision_steps(batch: int, steps: int) -> Action:
    """On the CPU; after so many steps that they are as fast as in a long run: at first malloc pages in every block."""
    torchvision_steps(CPU, batch, 40, torch.float32)()
    return torchvision_steps(CPU, batch, steps, torch.float32)


def our_training(device: torch.device, batch: int, steps: int, missing: list[str]) -> Iterator[tuple[str, Action]]:
    """Steps of train.py with all that it does in them: schedule, average, checks and sums."""
    batches = random_batches(device, batch, steps)
    for precision in precisions(device):
        for suffix in ("", " + compile"):
            name = f"{precision}{suffix}"
            config = training_config(precision, device, batch)
            state = create_train_state(config, device, batches)
            if not suffix or compiles(state.network, device, name, missing):
                yield name, partial(our_steps, config, state, batches)


def train_steps(device: torch.device, batch: int, steps: int, precision: str) -> Action:
    """Steps of train.py in one precision, with the memory setting of a run."""
    setup_runtime(0, device.type)
    batches = random_batches(device, batch, steps)
    config = training_config(precision, device, batch)
    return partial(our_steps, config, create_train_state(config, device, batches), batches)


def compare_fed_steps(options: argparse.Namespace, device: torch.device, batch: int) -> Comparison:
    """Steps of train.py from files, beside steps on random data: the ratio is the share that the loader sustains."""
    steps = FED_STEPS[device.type]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = photos(options, 0, folder)
        originals = link_images(source, folder / "originals", steps * batch)
        small = store_small(source, folder / "short_side_256")
        copy_of_them = link_images(small, folder / "copy", steps * batch)
        loading = options.workers, batch, device
        fed = {
            "random data": random_batches(device, batch, steps),
            "fed from the originals": our_batches(originals, *loading),
            "fed from a copy made with --short-side 256": our_batches(copy_of_them, *loading),
        }
        config = training_config("auto", device, batch)
        candidates = {
            name: partial(our_steps, config, create_train_state(config, device, batches), batches)
            for name, batches in fed.items()
        }
        times = alternate(candidates, options.rounds)
    workers = counted(options.workers, "loader worker")
    title = f"training step on the {kind(device)} with {workers}, batch {batch}, {IMAGE_SIZE} px"
    return Comparison(title, list(fed), "random data", times, steps * batch)


def our_steps(config: ModuleType, state: TrainState, batches: CPUPrefetcher) -> None:
    """One epoch of train.py over the batches."""
    state.start_epoch(1)
    with contextlib.redirect_stdout(io.StringIO()):
        train_one_epoch(config, state, batches, SilentWriter(), lambda: None)


class RandomBatches:
    """Stands for the loader: one batch, again and again."""

    def __init__(self, images: Tensor, targets: Tensor, steps: int) -> None:
        self.batch = images.contiguous(memory_format=torch.channels_last), targets
        self.steps = steps
        self.dataset = CountedImages(10_000)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([self.batch] * self.steps)

    def set_epoch(self, epoch: int, position: int) -> None:
        """All epochs are alike."""


def random_batches(device: torch.device, batch: int, steps: int) -> CPUPrefetcher:
    """RandomBatches as the loader that it stands for: it has what train.py uses of one."""
    return cast(CPUPrefetcher, RandomBatches(*random_batch(device, batch), steps))


def training_config(precision: str, device: torch.device, batch: int) -> ModuleType:
    """What train.py reads of config.py in a step, with torchvision's recipe."""
    config = ModuleType("config")
    vars(config).update(
        **{"seed": 0, "device": device.type, "precision": precision, "batch_size": batch},
        **{"model_arch_name": "mobilenet_v2", "model_num_classes": NUM_CLASSES, "model_width_mult": 1.0},
        **{"model_dropout": 0.2, "sync_batch_norm": False, "gradient_accumulation_steps": 1, "epochs": 300},
        **{"model_lr": 0.045, "lr_warmup_epochs": 5, "model_momentum": 0.9, "model_weight_decay": 4e-5},
        **{"model_ema_decay": 0.9999, "loss_label_smoothing": 0.0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0},
        **{
            "train_print_frequency": 100,
            "image_size": IMAGE_SIZE,
            "model_padding": "symmetric",
            "model_batch_norm_eps": 1e-5,
        },
        **{"frozen_blocks": 0, "backbone_lr_factor": 1.0, "class_weights": None},
    )
    return config
