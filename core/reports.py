# SPDX-License-Identifier: Apache-2.0
"""What people see of a training run: its first and last lines, progress, TensorBoard."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from core.checkpoints import TrainState
from core.metrics import SCORES, show_scores
from core.plurals import counted
from core.processes import from_main, num_processes, process_rank
from core.settings import NUM_BLOCKS, config_lines, config_place, precision_name
from core.weights_files import read_checkpoint

Batch = TypeVar("Batch")


class SilentWriter:
    """Stands for the SummaryWriter in the processes that write nothing."""

    def add_scalar(self, *_: object) -> None:
        """Nothing, as the others."""

    def add_images(self, *_: object) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


Writer = SummaryWriter | SilentWriter


def open_writer(config: ModuleType, state: TrainState, num_batches: int, start: Path | None) -> Writer:
    """TensorBoard's writer, without what a killed run logged beyond the checkpoint; a silent one but in process 0."""
    if process_rank() > 0:
        return SilentWriter()
    # an epoch that stopped before its validation reports its last step again
    done = state.epoch * num_batches + state.position
    first_step = done + (state.position < num_batches) if start else 0
    folder = Path("samples/logs", config.exp_name)
    if any(path.stat().st_mtime > time.time() for path in folder.glob("events.out.tfevents.*")):
        print(f"{folder}: has files from the future; TensorBoard, which sorts them by time, may show steps twice.")
    return SummaryWriter(folder, purge_step=first_step)


class Progress:
    """What people see of an epoch: a bar on a terminal, a line and TensorBoard values every few batches."""

    def __init__(self, config: ModuleType, state: TrainState, num_batches: int, writer: Writer) -> None:
        self.config, self.state, self.num_batches, self.writer = config, state, num_batches, writer
        self.first = state.position  # batches that an earlier run did
        self.began = time.perf_counter()
        self.waited = 0.0

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass the batches on, and measure how long the loop waits for each."""
        bar = tqdm(
            total=self.num_batches, initial=self.first, disable=not sys.stdout.isatty(), leave=False, file=sys.stdout
        )
        with bar:
            asked = time.perf_counter()
            for batch in batches:
                self.waited += time.perf_counter() - asked
                yield batch
                bar.update()
                asked = time.perf_counter()

    def speed(self, batches_done: int) -> dict[str, float]:
        """Time since the epoch began or went on, and training images per second of it; nothing if it had no batch."""
        if batches_done == self.first:  # an earlier run stopped between the last one and its validation
            return {}
        seconds = time.perf_counter() - self.began
        images = (batches_done - self.first) * self.config.batch_size * num_processes()
        return {"seconds": seconds, "images_per_second": images / seconds}

    def report(self, batches_done: int, averages: dict[str, float]) -> None:
        """Print and log the averages of the epoch so far."""
        epoch, speed = self.state.epoch, self.speed(batches_done)
        timing = rate = ""
        if speed:
            seconds, left = speed["seconds"], (self.config.epochs - epoch) * self.num_batches - batches_done
            pace = seconds / (batches_done - self.first)
            timing = f"Time {pace:.3f} s Data {self.waited / seconds:.0%}"
            rate = f"{speed['images_per_second']:.0f} images/s Left {timedelta(seconds=round(left * pace))}"
        place = f"Epoch: [{epoch + 1}][{batches_done:>{len(str(self.num_batches))}}/{self.num_batches}]"
        scores = show_scores(averages, self.config.model_num_classes, 2)  # not every task has some in training
        tqdm.write(" ".join(filter(None, [place, timing, f"Loss {averages['loss']:.4f}", scores, rate])))
        sys.stdout.flush()
        learning_rate = float(self.state.scheduler.get_last_lr()[-1])  # that of the classifier
        step = epoch * self.num_batches + batches_done
        log_scalars(self.writer, "Train", averages | speed | {"lr": learning_rate}, step)


def describe_speed(trained: dict[str, float]) -> str:
    """What Progress.speed() measured of an epoch, for the end of a line."""
    if "seconds" not in trained:
        return ""
    return f" {trained['images_per_second']:.0f} images/s {timedelta(seconds=round(trained['seconds']))}"


def log_images(writer: Writer, images: Tensor) -> None:
    """Show images of the first batch, uint8 [N, 3, S, S], as training sees them."""
    writer.add_images("Train/Augmented images", images, 0)


def log_scalars(writer: Writer, split: str, values: dict[str, float], step: int) -> None:
    """Write the known values to TensorBoard; `step` counts the batches of the run."""
    for key, title in SCALAR_TITLES.items():
        if key in values:
            writer.add_scalar(f"{split}/{title}", values[key], step)


SCALAR_TITLES = {
    "loss": "Loss",
    "acc1": "Acc@1",
    "acc5": "Acc@5",
    "macro": "Macro",
    "miou": "mIoU",
    "pixels": "Pixels",
    "map": "mAP",
    "map50": "mAP@0.5",
    "lr": "Learning rate",
    "images_per_second": "Images per second",
}


def warn_of_rate(config: ModuleType, train_loss: float, valid_loss: float, guessing: float) -> None:
    """Say so if the loss of an epoch is far above that of guessing."""
    # 2 more: the right class gets a seventh of what guessing gives it. In validation much more than that can also come
    # from a network that has learnt its training images by heart.
    limits = {"training": (train_loss, guessing + 2), "validation": (valid_loss, guessing + 10)}
    for split, (loss, limit) in limits.items():
        if loss > limit:
            print(
                f"The {split} loss {loss:.2f} is far above {guessing:.2f}, that of guessing: model_lr = "
                f"{config.model_lr} ({config_place(config, 'model_lr')}) is too high; lower it."
            )
            return


def show_bar(batches: Iterable[Batch], total: int) -> Iterator[Batch]:
    """Pass batches on, with a bar on a terminal."""
    yield from tqdm(batches, total=total, disable=not sys.stdout.isatty(), leave=False, file=sys.stdout)


def print_run(
    config: ModuleType,
    state: TrainState,
    num_batches: int,
    num_valid_images: int,
    start: Path | None,
    note: str,
) -> None:
    """Say what is about to happen. `note`: what to keep in mind about the figures to come."""
    if start and state.epoch >= config.epochs:
        print(f"`{start}` has finished all {counted(config.epochs, 'epoch')}; nothing is left to train.")
    else:
        print_training(config, state, num_batches, num_valid_images, start)
        print(note)
    print(f"TensorBoard: tensorboard --logdir samples/logs/{config.exp_name}", flush=True)


def warn_of_same_images(train_root: str, valid_root: str) -> None:
    """Say so if the folders or splits of training and validation are one."""
    if os.path.realpath(train_root) == os.path.realpath(valid_root):
        print(f"{valid_root}: training and validation have the same images; the scores say nothing of others.")


def print_training(
    config: ModuleType, state: TrainState, num_batches: int, num_valid_images: int, start: Path | None
) -> None:
    """Say what is trained, with what, and where it goes on."""
    parameters = sum(parameter.numel() for parameter in state.network.parameters())
    print(f"Build `{config.model_arch_name}` model successfully: {parameters:,} parameters.")
    print(
        f"{state.num_images} training and {num_valid_images} validation images of "
        f"{counted(config.model_num_classes, 'class', 'classes')}; {state.device}, "
        f"{precision_name(config.precision, state.dtype)}."
    )
    if state.frozen_blocks:
        trained = sum(parameter.numel() for parameter in state.network.parameters() if parameter.requires_grad)
        print(f"The first {state.frozen_blocks} of {NUM_BLOCKS} blocks are frozen; {trained:,} parameters are trained.")
    if start:
        within = f" and {state.position} of {counted(num_batches, 'batch', 'batches')}" if state.position else ""
        print(
            f"Resume `{start}` after {state.epoch} of {counted(config.epochs, 'epoch')}{within}, best "
            f"{SCORES[state.score]} {state.best_score:.3f}."
        )
    if config.batch_size * (num_processes() if config.sync_batch_norm else 1) == 1:
        place = config_place(config, "batch_size")
        print(f"batch_size = 1 ({place}): batch-norm sees one image and learns little; take 16.")


def compare_losses(config: ModuleType) -> str:
    """Why the loss of training is not that of validation: of a classifier."""
    reasons = {
        "label smoothing": config.loss_label_smoothing > 0,
        "mixed images": config.mixup_alpha + config.cutmix_alpha > 0,
        "class weights": config.class_weights is not None,
        "dropout": config.model_dropout > 0,
        "augmentation": config.random_crop_scale is not None
        or config.random_flip_probability + config.random_erasing_probability > 0
        or config.trivial_augment,
    }
    return tell_losses_apart(reasons)


def tell_losses_apart(reasons: dict[str, bool]) -> str:
    """A line that names the reasons which hold."""
    named = ", ".join([*(name for name, holds in reasons.items() if holds), "weights that still move"])
    return f"The two losses do not compare: that of training is taken with {named}; that of validation is not."


def print_end(config: ModuleType, state: TrainState, num_batches: int | None) -> None:
    """Say what the run has left behind, what it did not see of so many batches an epoch, if any, and how to go on."""
    results = Path("results", config.exp_name)
    best = results / "best.pth.tar"
    found = from_main(partial(describe_weights, best, state.score))
    if found is None:
        return
    print(f"Best weights: {best}, of {found}. Those of the last epoch: {results / 'last.pth.tar'}.")
    left_out = state.num_images - num_batches * config.batch_size * num_processes() if num_batches else 0
    if left_out:
        print(
            f"Each epoch left out {left_out} of {state.num_images} training images, others each time: its last batch "
            "was not complete."
        )
    lines = config_lines(config)
    folder = os.path.relpath(Path(str(config.__file__)).resolve().parent)  # of the scripts of this task
    folder = "" if folder == "." else f"{folder}/"
    if Path(config.model_weights_path).resolve() != best.resolve():
        line = lines.get("model_weights_path", "?")
        print(f'To use them, set {folder}config.py line {line}: model_weights_path = "{best}".')
    prefix = f"EXP_NAME={config.exp_name} " if os.environ.get("EXP_NAME") == config.exp_name else ""
    print(
        f"Go on with `{prefix}python3 {folder}inference.py IMAGE`, or `{prefix}python3 {folder}test.py` after "
        f'mode = "test" ({folder}config.py line {lines.get("mode", "?")}).',
        flush=True,
    )


def print_left_out(config: ModuleType, trained: dict[str, float]) -> None:
    """Say which images and steps did not count in an epoch."""
    left_out = int(trained["batches"] * config.batch_size * num_processes() - trained["images"])  # bad_images = "skip"
    if left_out:
        names = "scripts/check_dataset.py names"
        what = counted(left_out, f"unreadable training image; {names} it", f"unreadable training images; {names} them")
        print(f"Left out {what}.")
    if trained["skipped"]:
        steps = counted(int(trained["skipped"]), "optimizer step")
        print(f"Skipped {steps} whose float16 gradients were too large.")


def describe_weights(path: Path, score: str) -> str | None:
    """The epoch and the score of a file of weights; None if it is gone, or another's."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        weights = read_checkpoint(path)
        return f"epoch {weights['epoch']} ({SCORES[score]} {weights[score]:.3f})"
    return None
