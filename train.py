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
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import model
from dataset import CPUPrefetcher, ImageDataset, cache_images, create_batches
from imgproc import denormalize, eval_transform, train_transform
from utils import (
    INTERRUPTED,
    NO_BATCH,
    EpochMeter,
    FiniteCheck,
    Interruptions,
    TrainState,
    autocast,
    check_config,
    check_workers,
    choose_dtype,
    compile_network,
    config_lines,
    epoch_number,
    evaluate,
    fill_momentum,
    from_main,
    joined_processes,
    least_over_processes,
    list_checkpoints,
    load_pretrained_weights,
    note_worker,
    num_processes,
    only_run,
    parallelize,
    precision_name,
    process_rank,
    read_checkpoint,
    resume_training,
    save_train_state,
    save_weights,
    seed_step,
    setup_runtime,
    share_buffers,
    show_scores,
    synchronize_batch_norm,
    user_errors,
    without_averaging,
)


def main(config: ModuleType) -> None:
    check_config(config, needed_mode="train")
    device = setup_runtime(config.seed, config.device, config.precision, config.deterministic)
    check_workers(config.num_workers, config.batch_size, config.image_size, num_loaders=2)
    with joined_processes(device), contextlib.ExitStack() as held:
        train_batches, valid_batches = create_splits(config, device)
        state = create_train_state(config, device, train_batches)
        from_main(lambda: held.enter_context(only_run(Path("samples", config.exp_name))))
        start = resume_training(state, config)
        if start is None and config.pretrained_model_weights_path:
            print(load_pretrained_weights(state.network, config, state.class_names))
            state.ema_network.module.load_state_dict(state.network.state_dict())
        if config.compile_model:
            compile_network(state.network, device)
        train(config, state, train_batches, valid_batches, start)


def train(
    config: ModuleType,
    state: TrainState,
    train_batches: CPUPrefetcher,
    valid_batches: CPUPrefetcher,
    start: Path | None,
) -> None:
    """Run the epochs that are left. Raises: SystemExit with status 128 + number after a signal."""
    interruptions = Interruptions(config.checkpoint_every_minutes, Path("samples", config.exp_name))
    print_run(config, state, train_batches, valid_batches, start)
    if state.epoch >= config.epochs:
        print_end(config, train_batches)
        return
    from_main(partial(prepare_folders, config.exp_name))
    valid_batches.start()
    with contextlib.closing(open_writer(config, state, train_batches, start)) as writer:
        pause = partial(pause_if_asked, config, state, train_batches, interruptions, writer)
        while state.epoch < config.epochs:
            trained = train_one_epoch(config, state, train_batches, writer, pause)
            share_buffers(state.ema_network.module)
            metrics = evaluate(
                model.folded(state.ema_network.module, state.dtype),
                valid_batches,
                device=state.device,
                dtype=state.dtype,
                print_frequency=config.valid_print_frequency,
                should_stop=interruptions.came,
            )
            pause()
            finish_epoch(config, state, trained, metrics, writer)
    print_end(config, train_batches)


def prepare_folders(exp_name: str) -> None:
    """Make the folders of the run now, so that a lack of permission shows, and remove what killed runs left."""
    for folder in (Path("samples", exp_name), Path("results", exp_name)):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.partial"):  # nobody else writes here while this run holds the folder
            path.unlink()


def open_writer(config: ModuleType, state: TrainState, batches: CPUPrefetcher, start: Path | None) -> SummaryWriter:
    """TensorBoard's writer, without what a killed run logged beyond the checkpoint; None but in process 0."""
    if process_rank() > 0:
        return SilentWriter()
    # an epoch that stopped before its validation reports its last step again
    done = state.epoch * len(batches) + state.position
    first_step = done + (state.position < len(batches)) if start else 0
    folder = Path("samples/logs", config.exp_name)
    if any(path.stat().st_mtime > time.time() for path in folder.glob("events.out.tfevents.*")):
        print(f"{folder}: has files from the future; TensorBoard, which sorts them by time, may show steps twice.")
    return SummaryWriter(folder, purge_step=first_step)


class SilentWriter:
    """Stands for the SummaryWriter in the processes that write nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: None


def pause_if_asked(
    config: ModuleType,
    state: TrainState,
    batches: CPUPrefetcher,
    interruptions: Interruptions,
    writer: SummaryWriter,
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
    for note in (*train_set.notes, *valid_set.notes):
        print(note)
    if config.cache_images:
        asked_by = f"config.py line {config_lines(config).get('cache_images', '?')}: cache_images = True"
        cache_images([train_set, valid_set], int(os.environ.get("LOCAL_WORLD_SIZE", "1")), asked_by)
    return create_batches(train_set, **loading), create_batches(valid_set, **loading)


def create_train_state(config: ModuleType, device: torch.device, batches: CPUPrefetcher) -> TrainState:
    """Network, average, optimizer and schedule at the start of a run."""
    network = getattr(model, config.model_arch_name)(
        config.model_num_classes, config.model_width_mult, config.model_dropout
    ).to(device, memory_format=torch.channels_last)
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
        parallel_network=parallelize(network, device),
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


class MovingAverage(AveragedModel):
    """The exponential moving average of weights and batch-norm statistics.

    Update n keeps min(decay, (1 + n) / (10 + n)) of the average, so that a short run is not judged by its beginning
    (the warm-up of tf.train.ExponentialMovingAverage); the first one, n = 0, keeps nothing.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay

    def update_parameters(self, network: nn.Module) -> None:
        # AveragedModel's own method copies this count, which lies on the CPU, to the GPU and waits for it.
        updates = int(self.n_averaged)
        mix = get_ema_multi_avg_fn(min(self.decay, (1 + updates) / (10 + updates)) if updates else 0.0)
        # Without batch-norm's counters, which averaged_weights() takes from the network.
        averaged, current = (
            [tensor.detach() for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
            for module in (self.module, network)
        )
        mix(averaged, current, updates)
        self.n_averaged += 1


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
    writer: SummaryWriter,
    pause: Callable[[], None],
) -> dict[str, float]:
    """Run the batches of epoch state.epoch from state.position on, and `pause` between two steps.

    Returns EpochMeter.averages(), seconds, images_per_second, left_out and batches. Raises: FloatingPointError.
    """
    criterion = nn.CrossEntropyLoss(label_smoothing=config.loss_label_smoothing)
    mix = create_mixing(config)
    progress = Progress(config, state, len(batches), writer)
    state.network.train()
    batches.set_epoch(state.epoch, state.position)
    pause()
    for index, (images, targets) in enumerate(progress.watch(batches), start=state.position):  # [N, 3, S, S] and [N]
        group = index // config.gradient_accumulation_steps * config.gradient_accumulation_steps
        group_size = min(config.gradient_accumulation_steps, len(batches) - group)
        is_last = index + 1 == group + group_size
        seed_step(config.seed, state.epoch, index)
        mixed_images, mixed_targets = mix(images, targets) if mix else (images, targets)
        if state.epoch == index == 0:
            shown = denormalize(mixed_images[:16], batches.mean, batches.std)
            writer.add_images("Train/Augmented images", shown, 0)
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
    left_out = len(batches) * config.batch_size * num_processes() - averages["images"]  # with bad_images = "skip"
    return averages | progress.speed(len(batches)) | {"left_out": left_out, "batches": len(batches)}


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


class Progress:
    """What people see of an epoch: a bar on a terminal, a line and TensorBoard values every few batches."""

    def __init__(self, config: ModuleType, state: TrainState, num_batches: int, writer: SummaryWriter) -> None:
        self.config, self.state, self.num_batches, self.writer = config, state, num_batches, writer
        self.first = state.position  # batches that an earlier run did
        self.began = time.perf_counter()
        self.waited = 0.0

    def watch(self, batches: CPUPrefetcher):
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
        """Time since the epoch began or went on, and training images per second of it."""
        seconds = time.perf_counter() - self.began
        images = (batches_done - self.first) * self.config.batch_size * num_processes()
        return {"seconds": seconds, "images_per_second": images / seconds}

    def report(self, batches_done: int, averages: dict[str, float]) -> None:
        """Print and log the averages of the epoch so far."""
        speed = self.speed(batches_done)
        seconds, rate = speed["seconds"], speed["images_per_second"]
        epoch = self.state.epoch
        left = (self.config.epochs - epoch) * self.num_batches - batches_done
        pace = seconds / max(1, batches_done - self.first)
        tqdm.write(
            f"Epoch: [{epoch + 1}][{batches_done:>{len(str(self.num_batches))}}/{self.num_batches}] "
            f"Time {pace:.3f} s Data {self.waited / seconds:.0%} Loss {averages['loss']:.4f} "
            f"{show_scores(averages, self.config.model_num_classes, 2)} {rate:.0f} images/s "
            f"Left {timedelta(seconds=round(left * pace))}"
        )
        sys.stdout.flush()
        learning_rate = self.state.scheduler.get_last_lr()[0]
        step = epoch * self.num_batches + batches_done
        log_scalars(self.writer, "Train", averages | {"lr": learning_rate, "images_per_second": rate}, step)


def log_scalars(writer: SummaryWriter, split: str, values: dict[str, float], step: int) -> None:
    """Write the known values to TensorBoard; `step` counts the batches of the run."""
    for key, title in SCALAR_TITLES.items():
        if key in values:
            writer.add_scalar(f"{split}/{title}", values[key], step)


SCALAR_TITLES = {
    "loss": "Loss",
    "acc1": "Acc@1",
    "acc5": "Acc@5",
    "lr": "Learning rate",
    "images_per_second": "Images per second",
}


def finish_epoch(
    config: ModuleType, state: TrainState, trained: dict[str, float], metrics: dict[str, float], writer: SummaryWriter
) -> None:
    """Count the epoch, write weights and checkpoint, log one line."""
    results, samples = Path("results", config.exp_name), Path("samples", config.exp_name)
    is_best = metrics["acc1"] > state.best_acc1 or not from_main((results / "best.pth.tar").exists)
    log_scalars(writer, "Valid", metrics, (state.epoch + 1) * trained["batches"])
    writer.flush()
    state.start_epoch(state.epoch + 1)
    state.best_acc1 = max(state.best_acc1, metrics["acc1"])
    from_main(partial(save_weights, results / "last.pth.tar", state, config, metrics["acc1"]))
    if is_best:
        from_main(partial(save_weights, results / "best.pth.tar", state, config, metrics["acc1"]))
    # The checkpoint comes last: with it the epoch counts as done, and a crash before it repeats the epoch.
    save_train_state(samples / f"epoch_{state.epoch}.pth.tar", state, config)
    from_main(partial(remove_old_checkpoints, samples, state.epoch, config.keep_checkpoints))
    if trained["left_out"]:
        print(f"Left out {trained['left_out']} unreadable training images; scripts/check_dataset.py names them.")
    if trained["skipped"]:
        print(f"Skipped {trained['skipped']} optimizer steps whose float16 gradients were too large.")
    warn_of_rate(config, trained["loss"], metrics["loss"])
    print(
        f" * Epoch {state.epoch}/{config.epochs} {show_scores(metrics, config.model_num_classes, 3)} "
        f"Loss {metrics['loss']:.4f} (train {trained['loss']:.4f}) Best {state.best_acc1:.3f} "
        f"{trained['images_per_second']:.0f} images/s {timedelta(seconds=round(trained['seconds']))}",
        flush=True,
    )


def warn_of_rate(config: ModuleType, train_loss: float, valid_loss: float) -> None:
    """Say so if the loss of an epoch is far above that of guessing."""
    guessing = math.log(config.model_num_classes)
    # 2 more: the right class gets a seventh of what guessing gives it. In validation much more than that can also come
    # from a network that has learnt its training images by heart.
    limits = {"training": (train_loss, guessing + 2), "validation": (valid_loss, guessing + 10)}
    for split, (loss, limit) in limits.items():
        if loss > limit:
            line = config_lines(config).get("model_lr", "?")
            print(
                f"The {split} loss {loss:.2f} is far above {guessing:.2f}, that of guessing: model_lr = "
                f"{config.model_lr} (config.py line {line}) is too high; lower it."
            )
            return


def remove_old_checkpoints(folder: Path, epoch: int, keep: int) -> None:
    """Remove what the checkpoint of `epoch`, just written, makes superfluous; later ones are damaged and stay."""
    (folder / INTERRUPTED).unlink(missing_ok=True)
    for path in [path for path in list_checkpoints(folder) if epoch_number(path) <= epoch][:-keep]:
        path.unlink()


def print_run(
    config: ModuleType,
    state: TrainState,
    train_batches: CPUPrefetcher,
    valid_batches: CPUPrefetcher,
    start: Path | None,
) -> None:
    """Say what is about to happen."""
    parameters = sum(parameter.numel() for parameter in state.network.parameters())
    print(f"Build `{config.model_arch_name}` model successfully: {parameters:,} parameters.")
    print(
        f"{len(train_batches.dataset)} training and {len(valid_batches.dataset)} validation images of "
        f"{config.model_num_classes} classes; {state.device}, {precision_name(config.precision, state.dtype)}."
    )
    if start and state.epoch >= config.epochs:
        print(f"`{start}` has finished all {config.epochs} epochs; nothing is left to train.")
    elif start:
        within = f" and {state.position} of {len(train_batches)} batches" if state.position else ""
        print(
            f"Resume `{start}` after {state.epoch} of {config.epochs} epochs{within}, best Acc@1 {state.best_acc1:.3f}."
        )
    if config.batch_size * (num_processes() if config.sync_batch_norm else 1) == 1:
        line = config_lines(config).get("batch_size", "?")
        print(f"batch_size = 1 (config.py line {line}): batch-norm sees one image and learns little; take 16.")
    print(compare_losses(config))
    print(f"TensorBoard: tensorboard --logdir samples/logs/{config.exp_name}", flush=True)


def compare_losses(config: ModuleType) -> str:
    """Why the loss of training is not that of validation."""
    reasons = {
        "label smoothing": config.loss_label_smoothing > 0,
        "mixed images": config.mixup_alpha + config.cutmix_alpha > 0,
        "dropout": config.model_dropout > 0,
        "augmentation": config.random_crop_scale is not None
        or config.random_flip_probability + config.random_erasing_probability > 0
        or config.trivial_augment,
        "weights that still move": True,
    }
    named = ", ".join(name for name, holds in reasons.items() if holds)
    return f"The two losses do not compare: that of training is taken with {named}; that of validation is not."


def print_end(config: ModuleType, batches: CPUPrefetcher) -> None:
    """Say what the run has left behind, what it did not see, and how to go on."""
    results = Path("results", config.exp_name)
    best = results / "best.pth.tar"
    found = from_main(partial(describe_weights, best))
    if found is None:
        return
    print(f"Best weights: {best}, of {found}. Those of the last epoch: {results / 'last.pth.tar'}.")
    images = len(batches.dataset)
    left_out = images - len(batches) * config.batch_size * num_processes()
    if left_out:
        print(
            f"Each epoch left out {left_out} of {images} training images, others each time: its last batch was not "
            "complete."
        )
    lines = config_lines(config)
    if Path(config.model_weights_path).resolve() != best.resolve():
        line = lines.get("model_weights_path", "?")
        print(f'To use them, set config.py line {line}: model_weights_path = "{best}".')
    prefix = f"EXP_NAME={config.exp_name} " if os.environ.get("EXP_NAME") == config.exp_name else ""
    print(
        f"Go on with `{prefix}python3 inference.py IMAGE`, or `{prefix}python3 test.py` after "
        f'mode = "test" (config.py line {lines.get("mode", "?")}).',
        flush=True,
    )


def describe_weights(path: Path) -> str | None:
    """The epoch and the accuracy of a file of weights; None if it is gone, or another's."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        weights = read_checkpoint(path)
        return f"epoch {weights['epoch']} (Acc@1 {weights['acc1']:.3f})"
    return None


if __name__ == "__main__":
    with user_errors('Interrupted; training continues at its newest checkpoint with resume = "auto".'):
        import config

        main(config)
