# SPDX-License-Identifier: Apache-2.0
"""Train the network of config.py, validate it after every epoch, keep checkpoints: python3 train.py."""

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from core.checkpoints import TrainState, fill_momentum, save_train_state, save_weights
from core.divergence import averages_so_far, stop_if_not_finite
from core.folding import folded
from core.frozen_blocks import FrozenForm, FrozenPart, TrainedPart, choose_frozen_dtype, refuse_untrained
from core.frozen_outputs import count_views, keep_outputs, output_file
from core.interruptions import Interruptions, note_worker, only_run
from core.metrics import ClassScores, EpochMeter, FiniteCheck, show_scores
from core.moving_average import MovingAverage
from core.network_weights import create_network, load_pretrained_weights
from core.optimisation import create_optimizer, place_in_group, take_step, warmup_cosine
from core.processes import (
    from_main,
    joined_processes,
    local_rank,
    parallelize,
    share_buffers,
    synchronize_batch_norm,
    unwrapped,
    without_averaging,
)
from core.reports import (
    Progress,
    Writer,
    compare_losses,
    describe_speed,
    log_images,
    log_scalars,
    open_writer,
    print_end,
    print_left_out,
    print_run,
    show_bar,
    warn_of_rate,
    warn_of_same_images,
)
from core.resuming import INTERRUPTED, prepare_folders, remove_old_checkpoints, resume_training
from core.settings import CLASSIFIER_RULES, check_config, config_lines
from core.tasks import Loss, Task
from core.training_loss import create_criterion, create_mixing
from dataset import (
    CPUPrefetcher,
    ImageDataset,
    NumberedImages,
    OutputBatches,
    cache_images,
    create_batches,
    numbered_passes,
)
from imgproc import augmentation, denormalize, eval_transform
from utils import (
    autocast,
    check_workers,
    choose_dtype,
    compile_network,
    evaluate,
    loader_options,
    seed_step,
    setup_runtime,
    user_errors,
)


def main(config: ModuleType, task: Task | None = None) -> None:
    task = task or CLASSIFIER
    check_config(config, "train", task.rules)
    device = setup_runtime(config.seed, config.device, config.precision, config.deterministic)
    with joined_processes(device), contextlib.ExitStack() as held:
        train_batches, valid_batches = create_splits(config, device, task)
        warn_of_same_images(train_batches.dataset.root, valid_batches.dataset.root)
        target_bytes = max(batches.dataset.target_bytes for batches in (train_batches, valid_batches))
        check_workers(config.num_workers, config.batch_size, config.image_size, 2, target_bytes)  # before any starts
        state = create_train_state(config, device, train_batches, task)
        from_main(lambda: held.enter_context(only_run(Path("samples", config.exp_name))))
        start = resume_training(state, config)
        if start is None and config.pretrained_model_weights_path:
            print(task.load_pretrained_weights(state.network, config, state.class_names))
            state.ema_network.module.load_state_dict(state.network.state_dict())
        if state.frozen_blocks:
            refuse_untrained(config, start)
        if config.compile_model:
            compile_network(unwrapped(state.parallel_network), device)
        train(config, state, train_batches, valid_batches, start, task)


def train(
    config: ModuleType,
    state: TrainState,
    train_batches: CPUPrefetcher,
    valid_batches: CPUPrefetcher,
    start: Path | None,
    task: Task,
) -> None:
    """Run the epochs that are left. Raises: SystemExit with status 128 + number after a signal."""
    if state.epoch < config.epochs:
        from_main(partial(prepare_folders, config.exp_name))
        train_batches, valid_batches = freeze_blocks(config, state, train_batches, valid_batches)
    interruptions = Interruptions(config.checkpoint_every_minutes, Path("samples", config.exp_name))
    print_run(config, state, len(train_batches), len(valid_batches.dataset), start, task.compare_losses(config))
    if state.epoch >= config.epochs:
        print_end(config, state, num_batches=None)
        return
    valid_batches.start()
    with contextlib.closing(open_writer(config, state, len(train_batches), start)) as writer:
        pause = partial(pause_if_asked, config, state, train_batches, interruptions, writer)
        while state.epoch < config.epochs:
            compute_loss = task.create_loss(config, state, train_batches, writer)
            trained = train_one_epoch(config, state, train_batches, writer, pause, compute_loss)
            share_buffers(state.ema_network.module)
            metrics = evaluate(
                scored_form(state, valid_batches, task),
                valid_batches,
                task.create_scores(config, state.network, state.device),
                device=state.device,
                dtype=state.dtype,
                print_frequency=config.valid_print_frequency,
                should_stop=interruptions.came,
            )
            pause()
            finish_epoch(config, state, trained, metrics, writer, task.guessing_loss(config))
    print_end(config, state, len(train_batches))


def pause_if_asked(
    config: ModuleType, state: TrainState, batches: CPUPrefetcher, interruptions: Interruptions, writer: Writer
) -> None:
    """Between two steps: write a checkpoint if one is due or a signal came, and leave after a signal.

    Raises: SystemExit with status 128 + number of the signal.
    """
    number, is_due = interruptions.agree()
    if not number and not is_due:
        return
    stop_if_not_finite(config, state, batches)
    path = Path("samples", config.exp_name, INTERRUPTED)
    writer.flush()  # before the checkpoint: what is logged twice is dropped, what is not logged is lost
    save_train_state(path, state, config)
    if number:
        print(
            f"{signal.Signals(number).name}: stopped after batch {state.position} of epoch {state.epoch + 1}, "
            f'`{path}` written; resume = "auto" continues there.',
            flush=True,
        )
        sys.exit(128 + number)


def create_splits(config: ModuleType, device: torch.device, task: Task) -> tuple[CPUPrefetcher, CPUPrefetcher]:
    """The batches to train and to validate on, which must have the same classes."""
    train_set = task.open_split(config, "train", None)
    valid_set = task.open_split(config, "valid", train_set.classes)
    if getattr(config, "cache_images", False):  # not all tasks have it
        asked_by = f"config.py line {config_lines(config).get('cache_images', '?')}: cache_images = True"
        cache_images([train_set, valid_set], int(os.environ.get("LOCAL_WORLD_SIZE", "1")), asked_by)
    loading = training_options(config, device)
    return create_batches(train_set, **loading), create_batches(valid_set, **loading)


def training_options(config: ModuleType, device: torch.device) -> dict[str, Any]:
    """loader_options(), with workers that a killed run can be told by."""
    return loader_options(config, device) | {"on_worker_start": partial(note_worker, Path("samples", config.exp_name))}


def open_split(config: ModuleType, split: str, classes: Sequence[str] | None = None) -> ImageDataset:
    """The "train" images, augmented, or the "valid" ones; prints its notes."""
    is_trained = split == "train"
    dataset = ImageDataset(
        getattr(config, f"{split}_image_dir"),
        augmentation(config) if is_trained else partial(eval_transform, image_size=config.image_size),
        num_classes=config.model_num_classes,
        classes=classes,
        seed=config.seed if is_trained else None,
        skip_bad=is_trained and config.bad_images == "skip",
        apply_orientation=config.apply_orientation,
    )
    for note in dataset.notes:
        print(note)
    return dataset


def create_train_state(
    config: ModuleType, device: torch.device, batches: CPUPrefetcher, task: Task | None = None
) -> TrainState:
    """Network, average, optimizer and schedule at the start of a run."""
    task = task or CLASSIFIER
    dropout = getattr(config, "model_dropout", 0.0)  # not all tasks have any
    network = task.create_network(config, dropout).to(device).to(memory_format=torch.channels_last)
    if config.sync_batch_norm:
        network = synchronize_batch_norm(network, device)
    frozen_blocks = getattr(config, "frozen_blocks", 0)  # not all tasks have any
    FrozenPart(network, frozen_blocks).requires_grad_(False)
    optimizer = create_optimizer(network, config)
    fill_momentum(optimizer, saved={})
    dtype = choose_dtype(config.precision, device)
    steps_per_epoch = math.ceil(len(batches) / config.gradient_accumulation_steps)
    warmup_steps = round(config.lr_warmup_epochs * steps_per_epoch)
    trained = TrainedPart(network, frozen_blocks) if frozen_blocks else network
    return TrainState(
        network=network,
        parallel_network=parallelize(task.train_form(trained, dtype), device),
        ema_network=MovingAverage(network, config.model_ema_decay),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(
            optimizer, warmup_cosine(warmup_steps, config.epochs * steps_per_epoch)
        ),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        device=device,
        dtype=dtype,
        class_names=batches.dataset.classes,
        num_images=len(batches.dataset),
        steps_per_epoch=steps_per_epoch,
        meter=task.meter(device),
        finite=FiniteCheck(device),
        frozen_blocks=frozen_blocks,
        score=task.score,
        rules=task.rules,
    )


def freeze_blocks(
    config: ModuleType, state: TrainState, train_batches: CPUPrefetcher, valid_batches: CPUPrefetcher
) -> tuple[CPUPrefetcher, CPUPrefetcher]:
    """Let kept outputs of the frozen blocks take the place of images, in validation and, if they recur, in training."""
    if not state.frozen_blocks:
        return train_batches, valid_batches
    dtype = choose_frozen_dtype(config, state.dtype, state.device)
    form, views = FrozenForm(state.network, state.frozen_blocks, dtype), count_views(config)
    train_batches = keep(config, state, form, train_batches, views) if views else train_batches
    if train_batches.shows_images:
        state.frozen_form = form
    valid_form = FrozenForm(state.network, state.frozen_blocks, state.dtype)
    return train_batches, keep(config, state, valid_form, valid_batches, views=1)


def keep(config: ModuleType, state: TrainState, form: FrozenForm, batches: CPUPrefetcher, views: int) -> CPUPrefetcher:
    """The batches with outputs of the frozen blocks, or as they are, with a line, if there is no room for these."""
    file = output_file(config, form, batches.dataset, views)

    def compute() -> Iterator[tuple[Tensor, Tensor]]:
        rank, size = local_rank()
        loading = training_options(config, state.device) | {"rank": rank, "num_processes": size}
        passes = create_batches(NumberedImages(batches.dataset, config.image_size), **loading)
        for pixels, numbers in show_bar(numbered_passes(passes, views), views * len(passes)):
            yield form(pixels), numbers.cpu()

    outputs = keep_outputs(file, compute)
    return OutputBatches(batches, outputs) if outputs else batches


def scored_form(state: TrainState, valid_batches: CPUPrefetcher, task: Task) -> nn.Module:
    """The averaged network, or what follows its frozen blocks, in the form that scores."""
    network = state.ema_network.module
    if isinstance(valid_batches, OutputBatches):
        return folded(TrainedPart(network, state.frozen_blocks), state.dtype, valid_batches.outputs.shape)
    return task.score_form(network, state.dtype)


def create_loss(config: ModuleType, state: TrainState, batches: CPUPrefetcher, writer: Writer) -> Loss:
    """The loss of the classifier for batch `index` of an epoch: images [N, 3, S, S] and classes [N]; it is metered."""
    criterion = create_criterion(config, batches, state.device)
    mix = create_mixing(config)

    def compute_loss(images: Tensor, targets: Tensor, index: int) -> Tensor:
        mixed_images, mixed_targets = mix(images, targets) if mix else (images, targets)
        if state.epoch == index == 0 and batches.shows_images:
            log_images(writer, denormalize(mixed_images[:16], batches.mean, batches.std))
        with autocast(state.device, state.dtype):
            logits = state.parallel_network(state.frozen_form(mixed_images))  # [N, num_classes]
            loss = criterion(logits, mixed_targets)  # nats, mean over N
        state.meter.add(loss, logits, targets)
        return loss

    return compute_loss


def metered(loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Callable[..., Loss]:
    """create_loss of other tasks: loss_of(network, images, targets), metered with the weight of its images."""

    def create_loss(config: ModuleType, state: TrainState, batches: CPUPrefetcher, writer: Writer) -> Loss:
        def compute_loss(images: Tensor, targets: Tensor, index: int) -> Tensor:
            if state.epoch == index == 0:
                log_images(writer, denormalize(images[:16], batches.mean, batches.std))
            with autocast(state.device, state.dtype):
                loss = loss_of(state.parallel_network, images, targets)
            state.meter.add_loss(loss, len(images))
            return loss

        return compute_loss

    return create_loss


def train_one_epoch(
    config: ModuleType,
    state: TrainState,
    batches: CPUPrefetcher,
    writer: Writer,
    pause: Callable[[], None],
    compute_loss: Loss | None = None,
) -> dict[str, float]:
    """Run the batches of epoch state.epoch from state.position on, and `pause` between two steps.

    Returns EpochMeter.averages(), Progress.speed() and batches. Raises: FloatingPointError.
    """
    compute_loss = compute_loss or create_loss(config, state, batches, writer)
    progress = Progress(config, state, len(batches), writer)
    state.parallel_network.train()
    batches.set_epoch(state.epoch, state.position)
    pause()
    for index, (images, targets) in enumerate(progress.watch(batches), start=state.position):
        group_size, is_last = place_in_group(index, len(batches), config.gradient_accumulation_steps)
        seed_step(config.seed, state.epoch, index)
        with contextlib.nullcontext() if is_last else without_averaging(state.parallel_network):
            loss = compute_loss(images, targets, index)
            state.scaler.scale(loss / group_size).backward()
        state.finite.add_loss(index, loss)
        if is_last:
            take_step(state, index)
        if (index + 1) % config.train_print_frequency == 0 and index + 1 < len(batches):
            progress.report(index + 1, averages_so_far(config, state, batches))
        if is_last and index + 1 < len(batches):
            pause()
    averages = averages_so_far(config, state, batches)
    progress.report(len(batches), averages)
    pause()
    return averages | progress.speed(len(batches)) | {"batches": len(batches)}


def finish_epoch(
    config: ModuleType,
    state: TrainState,
    trained: dict[str, float],
    metrics: dict[str, float],
    writer: Writer,
    guessing_loss: float,
) -> None:
    """Count the epoch, write weights and checkpoint, log one line."""
    results, samples = Path("results", config.exp_name), Path("samples", config.exp_name)
    score = metrics[state.score]
    is_best = score > state.best_score or not from_main((results / "best.pth.tar").exists)
    log_scalars(writer, "Valid", metrics, (state.epoch + 1) * int(trained["batches"]))
    writer.flush()
    state.start_epoch(state.epoch + 1)
    state.best_score = score if is_best else state.best_score  # of the file that is there
    from_main(partial(save_weights, results / "last.pth.tar", state, config, score))
    if is_best:
        from_main(partial(save_weights, results / "best.pth.tar", state, config, score))
    # The checkpoint comes last: with it the epoch counts as done, and a crash before it repeats the epoch.
    save_train_state(samples / f"epoch_{state.epoch}.pth.tar", state, config)
    from_main(partial(remove_old_checkpoints, samples, state.epoch, config.keep_checkpoints))
    print_left_out(config, trained)
    warn_of_rate(config, trained["loss"], metrics["loss"], guessing_loss)
    print(
        f" * Epoch {state.epoch}/{config.epochs} {show_scores(metrics, config.model_num_classes, 3)} "
        f"Loss {metrics['loss']:.4f} (train {trained['loss']:.4f}) Best {state.best_score:.3f}"
        f"{describe_speed(trained)}",
        flush=True,
    )


CLASSIFIER = Task(
    rules=CLASSIFIER_RULES,
    score="acc1",
    meter=EpochMeter,
    open_split=open_split,
    create_network=create_network,
    load_pretrained_weights=load_pretrained_weights,
    score_form=folded,
    create_loss=create_loss,
    create_scores=lambda config, network, device: ClassScores(config.model_num_classes, device),
    guessing_loss=lambda config: math.log(config.model_num_classes),
    compare_losses=compare_losses,
)

if __name__ == "__main__":
    with user_errors('Interrupted; training continues at its newest checkpoint with resume = "auto".'):
        import config

        main(config)
