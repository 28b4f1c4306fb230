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
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.checkpoints import TrainState, fill_momentum, save_train_state, save_weights
from core.folding import folded
from core.interruptions import Interruptions, note_worker, only_run
from core.metrics import NO_BATCH, EpochMeter, FiniteCheck, show_scores
from core.moving_average import MovingAverage
from core.network_weights import create_network, load_pretrained_weights
from core.processes import (
    from_main,
    joined_processes,
    least_over_processes,
    num_processes,
    parallelize,
    process_rank,
    share_buffers,
    synchronize_batch_norm,
    without_averaging,
)
from core.reports import Progress, Writer, log_images, log_scalars, open_writer, print_end, print_run, warn_of_rate
from core.resuming import INTERRUPTED, epoch_number, list_checkpoints, resume_training
from core.settings import check_config, config_lines
from dataset import CPUPrefetcher, ImageDataset, cache_images, create_batches
from imgproc import denormalize, eval_transform, train_transform
from utils import (
    autocast,
    check_workers,
    choose_dtype,
    compile_network,
    evaluate,
    seed_step,
    setup_runtime,
    user_errors,
)


class Forms(NamedTuple):
    """What computes with a network's weights: in training steps, and where it is scored in a precision."""

    train: Callable[[nn.Module], nn.Module]
    score: Callable[[nn.Module, torch.dtype], nn.Module]


PLAIN = Forms(lambda network: network, folded)


def main(config: ModuleType, forms: Forms = PLAIN) -> None:
    check_config(config, needed_mode="train")
    device = setup_runtime(config.seed, config.device, config.precision, config.deterministic)
    check_workers(config.num_workers, config.batch_size, config.image_size, num_loaders=2)
    with joined_processes(device), contextlib.ExitStack() as held:
        train_batches, valid_batches = create_splits(config, device)
        state = create_train_state(config, device, train_batches, forms)
        from_main(lambda: held.enter_context(only_run(Path("samples", config.exp_name))))
        start = resume_training(state, config)
        if start is None and config.pretrained_model_weights_path:
            print(load_pretrained_weights(state.network, config, state.class_names))
            state.ema_network.module.load_state_dict(state.network.state_dict())
        if config.compile_model:
            compile_network(state.network, device)
        train(config, state, train_batches, valid_batches, start, forms)


def train(
    config: ModuleType,
    state: TrainState,
    train_batches: CPUPrefetcher,
    valid_batches: CPUPrefetcher,
    start: Path | None,
    forms: Forms,
) -> None:
    """Run the epochs that are left. Raises: SystemExit with status 128 + number after a signal."""
    interruptions = Interruptions(config.checkpoint_every_minutes, Path("samples", config.exp_name))
    print_run(config, state, len(train_batches), len(valid_batches.dataset), start)
    if state.epoch >= config.epochs:
        print_end(config, state, len(train_batches))
        return
    from_main(partial(prepare_folders, config.exp_name))
    valid_batches.start()
    with contextlib.closing(open_writer(config, state, len(train_batches), start)) as writer:
        pause = partial(pause_if_asked, config, state, train_batches, interruptions, writer)
        while state.epoch < config.epochs:
            trained = train_one_epoch(config, state, train_batches, writer, pause)
            share_buffers(state.ema_network.module)
            metrics = evaluate(
                forms.score(state.ema_network.module, state.dtype),
                valid_batches,
                device=state.device,
                dtype=state.dtype,
                print_frequency=config.valid_print_frequency,
                should_stop=interruptions.came,
            )
            pause()
            finish_epoch(config, state, trained, metrics, writer)
    print_end(config, state, len(train_batches))


def prepare_folders(exp_name: str) -> None:
    """Make the folders of the run now, so that a lack of permission shows, and remove what killed runs left."""
    for folder in (Path("samples", exp_name), Path("results", exp_name)):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.partial"):  # nobody else writes here while this run holds the folder
            path.unlink()


def pause_if_asked(
    config: ModuleType,
    state: TrainState,
    batches: CPUPrefetcher,
    interruptions: Interruptions,
    writer: Writer,
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


def create_splits(config: ModuleType, device: torch.device) -> tuple[CPUPrefetcher, CPUPrefetcher]:
    """The batches of the training and of the validation folder, which must have the same classes."""
    loading = {
        "batch_size": config.batch_size,
        "num_workers": config.num_workers,
        "mean": config.model_mean_parameters,
        "std": config.model_std_parameters,
        "device": device,
        "rank": process_rank(),
        "num_processes": num_processes(),
        "on_worker_start": partial(note_worker, Path("samples", config.exp_name)),
    }
    train_set, valid_set = create_datasets(config)
    for note in (*train_set.notes, *valid_set.notes):
        print(note)
    if config.cache_images:
        asked_by = f"config.py line {config_lines(config).get('cache_images', '?')}: cache_images = True"
        cache_images([train_set, valid_set], int(os.environ.get("LOCAL_WORLD_SIZE", "1")), asked_by)
    return create_batches(train_set, **loading), create_batches(valid_set, **loading)


def create_datasets(config: ModuleType) -> tuple[ImageDataset, ImageDataset]:
    """The training images, augmented, and the validation images; the classes of both are those of the first."""
    augment = partial(
        train_transform,
        image_size=config.image_size,
        crop_scale=config.random_crop_scale,
        flip_probability=config.random_flip_probability,
        trivial_augment=config.trivial_augment,
        erasing_probability=config.random_erasing_probability,
        erasing_value=[255 * mean for mean in config.model_mean_parameters],
    )
    train_set = ImageDataset(
        config.train_image_dir,
        augment,
        num_classes=config.model_num_classes,
        seed=config.seed,
        skip_bad=config.bad_images == "skip",
        apply_orientation=config.apply_orientation,
    )
    valid_set = ImageDataset(
        config.valid_image_dir,
        partial(eval_transform, image_size=config.image_size),
        num_classes=config.model_num_classes,
        classes=train_set.classes,
        apply_orientation=config.apply_orientation,
    )
    return train_set, valid_set


def create_train_state(
    config: ModuleType, device: torch.device, batches: CPUPrefetcher, forms: Forms = PLAIN
) -> TrainState:
    """Network, average, optimizer and schedule at the start of a run."""
    network = create_network(config, config.model_dropout).to(device).to(memory_format=torch.channels_last)
    if config.sync_batch_norm:
        network = synchronize_batch_norm(network, device)
    # Scales and biases gain nothing from decay.
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    spared = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": config.model_weight_decay}, {"params": spared, "weight_decay": 0.0}],
        lr=config.model_lr,
        momentum=config.model_momentum,
        nesterov=config.model_momentum > 0,
        fused=True,
    )
    fill_momentum(optimizer, saved={})
    dtype = choose_dtype(config.precision, device)
    steps_per_epoch = math.ceil(len(batches) / config.gradient_accumulation_steps)
    warmup_steps = round(config.lr_warmup_epochs * steps_per_epoch)
    return TrainState(
        network=network,
        parallel_network=parallelize(forms.train(network), device),
        ema_network=MovingAverage(network, config.model_ema_decay),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(
            optimizer, warmup_cosine(warmup_steps, config.epochs * steps_per_epoch)
        ),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        device=device,
        dtype=dtype,
        class_names=batches.dataset.classes,
        num_images=len(batches.dataset.targets),
        steps_per_epoch=steps_per_epoch,
        meter=EpochMeter(device),
        finite=FiniteCheck(device),
    )


def warmup_cosine(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """The share of the peak learning rate at a step: linear up to 1, then half a cosine down to 0."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor


def create_mixing(config: ModuleType) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Mixup (arXiv:1710.09412), cutmix (arXiv:1905.04899), one of the two for each batch, or None."""
    if config.mixup_alpha == config.cutmix_alpha == 0:
        return None
    from torchvision.transforms import v2  # takes a quarter of a second, so only for those who mix

    options = {"num_classes": config.model_num_classes}
    mixing = []
    if config.mixup_alpha > 0:
        mixing.append(v2.MixUp(alpha=config.mixup_alpha, **options))
    if config.cutmix_alpha > 0:
        mixing.append(v2.CutMix(alpha=config.cutmix_alpha, **options))
    return v2.RandomChoice(mixing)


def train_one_epoch(
    config: ModuleType,
    state: TrainState,
    batches: CPUPrefetcher,
    writer: Writer,
    pause: Callable[[], None],
) -> dict[str, float]:
    """Run the batches of epoch state.epoch from state.position on, and `pause` between two steps.

    Returns EpochMeter.averages(), seconds, images_per_second and batches. Raises: FloatingPointError.
    """
    criterion = nn.CrossEntropyLoss(label_smoothing=config.loss_label_smoothing)
    mix = create_mixing(config)
    progress = Progress(config, state, len(batches), writer)
    state.parallel_network.train()
    batches.set_epoch(state.epoch, state.position)
    pause()
    for index, (images, targets) in enumerate(progress.watch(batches), start=state.position):  # [N, 3, S, S] and [N]
        group_size, is_last = place_in_group(index, len(batches), config.gradient_accumulation_steps)
        seed_step(config.seed, state.epoch, index)
        mixed_images, mixed_targets = mix(images, targets) if mix else (images, targets)
        if state.epoch == index == 0:
            log_images(writer, denormalize(mixed_images[:16], batches.mean, batches.std))
        with contextlib.nullcontext() if is_last else without_averaging(state.parallel_network):
            with autocast(state.device, state.dtype):
                logits = state.parallel_network(mixed_images)  # [N, num_classes]
                loss = criterion(logits, mixed_targets)  # nats, mean over N
            state.scaler.scale(loss / group_size).backward()
        state.meter.add(loss, logits, targets)
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


def place_in_group(index: int, num_batches: int, accumulation_steps: int) -> tuple[int, bool]:
    """How many batches make the optimizer step that a batch belongs to, and whether it is the last of them."""
    first = index // accumulation_steps * accumulation_steps
    size = min(accumulation_steps, num_batches - first)
    return size, index + 1 == first + size


def take_step(state: TrainState, index: int) -> None:
    """Let the optimizer, the schedule and the average take what batch `index` completes."""
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.get_total_norm([weight.grad for weight in state.network.parameters() if weight.grad is not None])
    if state.scaler.is_enabled():
        state.meter.count_skipped(norm)
    else:
        state.finite.add_gradient(index, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.scheduler.step()
    state.ema_network.update_parameters(state.network)
    state.position = index + 1


def averages_so_far(config: ModuleType, state: TrainState, batches: CPUPrefetcher) -> dict[str, float]:
    """EpochMeter.averages() of the epoch in all processes. Raises: as stop_if_not_finite()."""
    stop_if_not_finite(config, state, batches)
    return state.meter.over_processes().averages()


def stop_if_not_finite(config: ModuleType, state: TrainState, batches: CPUPrefetcher) -> None:
    """Raise FloatingPointError, in all processes, if a loss or gradient of this epoch was not finite in one of them."""
    loss, gradient = state.finite.first_batches()
    first_loss = least_over_processes(loss)
    number, what = (first_loss, "the loss") if first_loss <= gradient else (gradient, "a gradient")
    if number == NO_BATCH:
        return
    files = batches.files(number)
    shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    if what == "the loss" and loss > first_loss:
        shown = "of another process, which names its images"
    raise FloatingPointError(
        f"{what} became infinite or NaN in batch {number + 1} of epoch {state.epoch + 1} ({shown}); "
        f"lower model_lr (config.py line {config_lines(config).get('model_lr', '?')}); the checkpoints before it stay"
    )


def finish_epoch(
    config: ModuleType, state: TrainState, trained: dict[str, float], metrics: dict[str, float], writer: Writer
) -> None:
    """Count the epoch, write weights and checkpoint, log one line."""
    results, samples = Path("results", config.exp_name), Path("samples", config.exp_name)
    is_best = metrics["acc1"] > state.best_acc1 or not from_main((results / "best.pth.tar").exists)
    log_scalars(writer, "Valid", metrics, (state.epoch + 1) * int(trained["batches"]))
    writer.flush()
    state.start_epoch(state.epoch + 1)
    state.best_acc1 = max(state.best_acc1, metrics["acc1"])
    from_main(partial(save_weights, results / "last.pth.tar", state, config, metrics["acc1"]))
    if is_best:
        from_main(partial(save_weights, results / "best.pth.tar", state, config, metrics["acc1"]))
    # The checkpoint comes last: with it the epoch counts as done, and a crash before it repeats the epoch.
    save_train_state(samples / f"epoch_{state.epoch}.pth.tar", state, config)
    from_main(partial(remove_old_checkpoints, samples, state.epoch, config.keep_checkpoints))
    left_out = trained["batches"] * config.batch_size * num_processes() - trained["images"]  # bad_images = "skip"
    if left_out:
        print(f"Left out {left_out} unreadable training images; scripts/check_dataset.py names them.")
    if trained["skipped"]:
        print(f"Skipped {trained['skipped']} optimizer steps whose float16 gradients were too large.")
    warn_of_rate(config, trained["loss"], metrics["loss"])
    print(
        f" * Epoch {state.epoch}/{config.epochs} {show_scores(metrics, config.model_num_classes, 3)} "
        f"Loss {metrics['loss']:.4f} (train {trained['loss']:.4f}) Best {state.best_acc1:.3f} "
        f"{trained['images_per_second']:.0f} images/s {timedelta(seconds=round(trained['seconds']))}",
        flush=True,
    )


def remove_old_checkpoints(folder: Path, epoch: int, keep: int) -> None:
    """Remove what the checkpoint of `epoch`, just written, makes superfluous; later ones are damaged and stay."""
    (folder / INTERRUPTED).unlink(missing_ok=True)
    for path in [path for path in list_checkpoints(folder) if epoch_number(path) <= epoch][:-keep]:
        path.unlink()


if __name__ == "__main__":
    with user_errors('Interrupted; training continues at its newest checkpoint with resume = "auto".'):
        import config

        main(config)
