# SPDX-License-Identifier: Apache-2.0
"""Train the network of config.py, validate it after every epoch, keep checkpoints: python3 train.py."""

import math
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
from torchvision.transforms import v2
from torchvision.utils import make_grid
from tqdm import tqdm

import model
from dataset import CPUPrefetcher, ImageDataset, create_batches
from imgproc import denormalize, eval_transform, train_transform
from utils import (
    EpochMeter,
    TrainState,
    autocast,
    check_config,
    choose_dtype,
    evaluate,
    list_checkpoints,
    load_pretrained_weights,
    resume_training,
    save_train_state,
    save_weights,
    seed_step,
    setup_runtime,
    user_errors,
)


def main(config: ModuleType) -> None:
    check_config(config, needed_mode="train")
    device = setup_runtime(config.seed, config.device)
    train_batches, valid_batches = create_splits(config, device)
    state = create_train_state(config, device, train_batches)
    start = resume_training(state, config)
    if start is None and config.pretrained_model_weights_path:
        print(load_pretrained_weights(state.network, config.pretrained_model_weights_path))
        state.ema_network.module.load_state_dict(state.network.state_dict())
    if config.compile_model:
        state.network.compile()  # in place: names in checkpoints stay bare
        state.ema_network.module.compile()
    print_run(config, state, train_batches, valid_batches, start)
    if state.epoch >= config.epochs:
        return

    for folder in ("samples", "results"):
        Path(folder, config.exp_name).mkdir(parents=True, exist_ok=True)  # fails now, not after the first epoch
    purge_step = state.epoch * state.steps_per_epoch + 1 if start else 0  # what a killed run logged beyond that
    writer = SummaryWriter(f"samples/logs/{config.exp_name}", purge_step=purge_step)
    while state.epoch < config.epochs:
        trained = train_one_epoch(config, state, train_batches, writer)
        metrics = evaluate(
            state.ema_network.module,
            valid_batches,
            device=device,
            dtype=state.dtype,
            print_frequency=config.valid_print_frequency,
        )
        finish_epoch(config, state, trained, metrics, writer)
    writer.close()


def create_splits(config: ModuleType, device: torch.device) -> tuple[CPUPrefetcher, CPUPrefetcher]:
    """The batches of the training and of the validation folder, which must have the same classes."""
    loading = {
        "batch_size": config.batch_size,
        "num_workers": config.num_workers,
        "mean": config.model_mean_parameters,
        "std": config.model_std_parameters,
        "device": device,
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
    )
    valid_set = ImageDataset(
        config.valid_image_dir,
        partial(eval_transform, image_size=config.image_size),
        num_classes=config.model_num_classes,
        classes=train_set.classes,
    )
    return create_batches(train_set, **loading), create_batches(valid_set, **loading)


def create_train_state(config: ModuleType, device: torch.device, batches: CPUPrefetcher) -> TrainState:
    """Network, average, optimizer and schedule at the start of a run."""
    network = getattr(model, config.model_arch_name)(
        config.model_num_classes, config.model_width_mult, config.model_dropout
    ).to(device, memory_format=torch.channels_last)
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
    dtype = choose_dtype(config.precision, device)
    steps_per_epoch = math.ceil(len(batches) / config.gradient_accumulation_steps)
    warmup_steps = round(config.lr_warmup_epochs * steps_per_epoch)
    return TrainState(
        network=network,
        ema_network=create_average(network, config.model_ema_decay),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(
            optimizer, warmup_cosine(warmup_steps, config.epochs * steps_per_epoch)
        ),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        device=device,
        dtype=dtype,
        class_names=batches.dataset.classes,
        steps_per_epoch=steps_per_epoch,
    )


def create_average(network: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of weights and batch-norm statistics.

    Update n keeps min(decay, (1 + n) / (10 + n)) of the average, so that a short run is not judged by its beginning
    (the warm-up of tf.train.ExponentialMovingAverage).
    """

    def update(averaged: list[Tensor], current: list[Tensor], _: Tensor) -> None:
        updates = int(average.n_averaged)  # lives on the CPU: no host sync
        get_ema_multi_avg_fn(min(decay, (1 + updates) / (10 + updates)))(averaged, current, updates)

    average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    return average


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
    options = {"num_classes": config.model_num_classes}
    mixing = []
    if config.mixup_alpha > 0:
        mixing.append(v2.MixUp(alpha=config.mixup_alpha, **options))
    if config.cutmix_alpha > 0:
        mixing.append(v2.CutMix(alpha=config.cutmix_alpha, **options))
    return v2.RandomChoice(mixing) if mixing else None


def train_one_epoch(
    config: ModuleType, state: TrainState, batches: CPUPrefetcher, writer: SummaryWriter
) -> dict[str, float]:
    """Run every batch of epoch state.epoch; returns EpochMeter.averages(), seconds, images_per_second and left_out."""
    criterion = nn.CrossEntropyLoss(label_smoothing=config.loss_label_smoothing)
    mix = create_mixing(config)
    meter = EpochMeter(state.device)
    progress = Progress(config, state, len(batches), writer)
    state.network.train()
    batches.set_epoch(state.epoch)
    for index, (images, targets) in enumerate(progress.watch(batches)):  # [N, 3, S, S] float32 and [N] int64
        if state.epoch == index == 0:
            writer.add_image("Train/Augmented images", grid_of(images, batches), 0)
        seed_step(config.seed, state.epoch, index)
        mixed_images, mixed_targets = mix(images, targets) if mix else (images, targets)
        with autocast(state.device, state.dtype):
            logits = state.network(mixed_images)  # [N, num_classes]
            loss = criterion(logits, mixed_targets)  # nats, mean over N
        group = index // config.gradient_accumulation_steps * config.gradient_accumulation_steps
        group_size = min(config.gradient_accumulation_steps, len(batches) - group)
        state.scaler.scale(loss / group_size).backward()
        meter.add(loss, logits, targets)
        if index + 1 == group + group_size:
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.zero_grad(set_to_none=True)
            state.scheduler.step()
            state.ema_network.update_parameters(state.network)
        if (index + 1) % config.train_print_frequency == 0 or index + 1 == len(batches):
            progress.report(index + 1, meter.averages())
    averages = meter.averages()
    left_out = len(batches) * config.batch_size - averages["images"]  # unreadable, with bad_images = "skip"
    return averages | progress.speed(len(batches)) | {"left_out": left_out}


def grid_of(images: Tensor, batches: CPUPrefetcher) -> Tensor:
    """The first 64 images of a normalised batch as one picture, uint8 [3, H, W]."""
    return make_grid(denormalize(images[:64], batches.mean, batches.std), nrow=8)


class Progress:
    """What people see of an epoch: a bar on a terminal, a line and TensorBoard values every few batches."""

    def __init__(self, config: ModuleType, state: TrainState, num_batches: int, writer: SummaryWriter) -> None:
        self.config, self.state, self.num_batches, self.writer = config, state, num_batches, writer
        self.began = time.perf_counter()
        self.waited = 0.0

    def watch(self, batches: CPUPrefetcher):
        """Pass the batches on, and measure how long the loop waits for each."""
        bar = tqdm(total=self.num_batches, disable=not sys.stdout.isatty(), leave=False, file=sys.stdout)
        with bar:
            asked = time.perf_counter()
            for batch in batches:
                self.waited += time.perf_counter() - asked
                yield batch
                bar.update()
                asked = time.perf_counter()

    def speed(self, batches_done: int) -> dict[str, float]:
        """Time since the epoch began, and training images per second of it."""
        seconds = time.perf_counter() - self.began
        return {"seconds": seconds, "images_per_second": batches_done * self.config.batch_size / seconds}

    def report(self, batches_done: int, averages: dict[str, float]) -> None:
        """Print and log the averages of the epoch so far."""
        speed = self.speed(batches_done)
        seconds, rate = speed["seconds"], speed["images_per_second"]
        epoch = self.state.epoch
        left = (self.config.epochs - epoch) * self.num_batches - batches_done
        tqdm.write(
            f"Epoch: [{epoch + 1}][{batches_done:>{len(str(self.num_batches))}}/{self.num_batches}] "
            f"Time {seconds / batches_done:.3f} s Data {self.waited / seconds:.0%} Loss {averages['loss']:.4f} "
            f"Acc@1 {averages['acc1']:.2f} Acc@5 {averages['acc5']:.2f} {rate:.0f} images/s "
            f"Left {timedelta(seconds=round(left * seconds / batches_done))}"
        )
        sys.stdout.flush()
        learning_rate = self.state.scheduler.get_last_lr()[0]
        log_scalars(self.writer, "Train", averages | {"lr": learning_rate, "images_per_second": rate}, self.state)


def log_scalars(writer: SummaryWriter, split: str, values: dict[str, float], state: TrainState) -> None:
    """Write the known values to TensorBoard at the current optimizer step."""
    for key, title in SCALAR_TITLES.items():
        if key in values:
            writer.add_scalar(f"{split}/{title}", values[key], state.scheduler.last_epoch)


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
    is_best = metrics["acc1"] > state.best_acc1 or not (results / "best.pth.tar").exists()
    state.epoch += 1
    state.best_acc1 = max(state.best_acc1, metrics["acc1"])
    log_scalars(writer, "Valid", metrics, state)
    writer.flush()
    save_weights(results / "last.pth.tar", state, config, metrics["acc1"])
    if is_best:
        save_weights(results / "best.pth.tar", state, config, metrics["acc1"])
    # The checkpoint comes last: with it the epoch counts as done, and a crash before it repeats the epoch.
    save_train_state(samples / f"epoch_{state.epoch}.pth.tar", state, config)
    for path in list_checkpoints(samples)[: -config.keep_checkpoints]:
        path.unlink()
    if trained["left_out"]:
        print(f"Left out {trained['left_out']} unreadable training images; scripts/check_dataset.py names them.")
    print(
        f" * Epoch {state.epoch}/{config.epochs} Acc@1 {metrics['acc1']:.3f} Acc@5 {metrics['acc5']:.3f} "
        f"Loss {metrics['loss']:.4f} (train {trained['loss']:.4f}) Best {state.best_acc1:.3f} "
        f"{trained['images_per_second']:.0f} images/s {timedelta(seconds=round(trained['seconds']))}",
        flush=True,
    )


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
        f"{config.model_num_classes} classes; {state.device}, {str(state.dtype).removeprefix('torch.')}."
    )
    if start and state.epoch >= config.epochs:
        print(f"`{start}` has finished all {config.epochs} epochs; nothing is left to train.")
    elif start:
        print(f"Resume `{start}` after {state.epoch} of {config.epochs} epochs, best Acc@1 {state.best_acc1:.3f}.")
    print(f"TensorBoard: tensorboard --logdir samples/logs/{config.exp_name}", flush=True)


if __name__ == "__main__":
    with user_errors('Interrupted; training continues at its newest checkpoint with resume = "auto".'):
        import config

        main(config)
