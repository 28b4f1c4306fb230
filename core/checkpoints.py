# SPDX-License-Identifier: Apache-2.0
"""All of the state of a training run: saved, checked and taken over."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from core.atomic_files import write_atomically
from core.metrics import EpochMeter, FiniteCheck
from core.network_weights import DEFINITION, check_weights, load_weights, refuse_other_values
from core.processes import from_main, num_processes, process_rank
from core.settings import CLASSIFIER_RULES, Rules, is_int, is_number, to_plain

# samples/<exp_name>/epoch_N.pth.tar, and interrupted.pth.tar within an epoch, hold all of the training state:
#   epoch           int    finished epochs; training continues with this 0-based one
#   position        int    batches done in that epoch by each process: all of them before validation, 0 between epochs
#   epoch_sums      list   the EpochMeter sums of these batches
#   best_acc1       float  best top-1 accuracy of the averaged weights on the validation set so far, percent, those of
#                          best.pth.tar; of another task its own score, best_<score>
#   state_dict      dict   raw weights, bare names ("features.0.0.weight"), never "module." or "_orig_mod."
#   ema_state_dict  dict   averaged weights, same names: what is validated, tested and published
#   ema_updates     int    updates of the average so far; without it the next one would start its warm-up again
#   optimizer, scheduler, scaler    their state_dict()
#   class_names     list   the class folders in the order of the logits
#   config          dict   every value of config.py, the number of processes and of training images: what may change
#
# results/<exp_name>/{best,last}.pth.tar hold weights to use:
#   state_dict      dict   the averaged weights, as they were validated
#   model_arch_name, model_width_mult, model_padding, model_batch_norm_eps, model_mean_parameters,
#   model_std_parameters, image_size, apply_orientation, of another task model_output_stride too
#                          as in config.py
#   class_names     list   as above
#   acc1            float  top-1 accuracy on the validation set, percent; of another task its own score
#   epoch           int    finished epochs


@dataclass
class TrainState:
    """Everything a training run carries from one step to the next."""

    network: nn.Module
    parallel_network: nn.Module  # what a training step calls: the network, or what averages its gradients
    ema_network: AveragedModel
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    device: torch.device
    dtype: torch.dtype  # of the convolutions
    class_names: list[str]
    num_images: int  # of the training set
    steps_per_epoch: int  # of the optimizer
    meter: EpochMeter  # of the epoch so far, in this process
    finite: FiniteCheck
    frozen_blocks: int = 0  # the first ones of the network
    frozen_form: Callable[[Tensor], Tensor] = lambda images: images  # from a batch to what is trained
    epoch: int = 0
    position: int = 0  # batches done in this epoch
    score: str = "acc1"  # what is validated, by its name among the metrics, percent
    best_score: float = 0.0
    rules: Rules = CLASSIFIER_RULES  # whose names of config.py are recorded

    def start_epoch(self, epoch: int) -> None:
        """Be at the beginning of an epoch."""
        self.epoch, self.position = epoch, 0
        self.meter, self.finite = type(self.meter)(self.device), FiniteCheck(self.device)


def save_train_state(path: Path, state: TrainState, config: ModuleType) -> None:
    """Write all of the training state, whole or not at all. All processes call it; process 0 writes.

    Raises: OSError if it cannot be written.
    """
    sums = state.meter.over_processes().sums.tolist()
    checkpoint = {
        "epoch": state.epoch,
        "position": state.position,
        "epoch_sums": sums,
        f"best_{state.score}": state.best_score,
        "state_dict": state.network.state_dict(),
        "ema_state_dict": averaged_weights(state),
        "ema_updates": int(state.ema_network.n_averaged),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "scaler": state.scaler.state_dict(),
        "class_names": state.class_names,
        "config": config_record(config, state),
    }
    from_main(lambda: write_atomically(path, lambda file: torch.save(checkpoint, file)))


def averaged_weights(state: TrainState) -> dict[str, Tensor]:
    """The average; what is no number to average, batch-norm's count of batches, is that of the network."""
    weights = state.ema_network.module.state_dict()
    for name, value in state.network.state_dict().items():
        if not value.is_floating_point():
            weights[name] = value.clone()
    return weights


def config_record(config: ModuleType, state: TrainState) -> dict[str, Any]:
    """Every value of config.py that check_config knows, as plain types, and what else decides the batches."""
    values: dict[str, Any] = to_plain({name: getattr(config, name) for name in state.rules.of_mode(config.mode)})
    return values | {"num_processes": num_processes(), "num_images": state.num_images}


def save_weights(path: Path, state: TrainState, config: ModuleType, score: float) -> None:
    """Write results/<exp_name>/{best,last}.pth.tar, whole or not at all."""
    described = (
        *("model_arch_name", "model_width_mult", "model_padding", "model_batch_norm_eps", "model_output_stride"),
        *("model_mean_parameters", "model_std_parameters", "image_size", "apply_orientation"),
    )
    checkpoint = to_plain({name: getattr(config, name) for name in described if name in state.rules.shared})
    checkpoint |= {"class_names": state.class_names, state.score: score, "epoch": state.epoch}
    checkpoint["state_dict"] = averaged_weights(state)
    write_atomically(path, lambda partial: torch.save(checkpoint, partial))


TRAIN_STATE_TYPES = {
    **{"epoch": int, "position": int, "epoch_sums": list, "ema_updates": int},
    **dict.fromkeys(("state_dict", "ema_state_dict", "optimizer", "scheduler", "scaler", "config"), dict),
    "class_names": list,
}


def check_train_state(path: str | Path, checkpoint: dict[str, Any], state: TrainState) -> None:
    """Raise ValueError if a checkpoint is not one of train.py, of another network, other classes, or diverged."""
    best = f"best_{state.score}"
    refuse_other_task(path, checkpoint, best)
    for key, kind in (TRAIN_STATE_TYPES | {best: float}).items():
        if type(checkpoint.get(key)) is not kind:
            raise ValueError(f"{path}: cannot be resumed, it has no {key}; use samples/<exp_name>/epoch_N.pth.tar")
    names, own = checkpoint["class_names"], state.class_names
    if names != own and len(names) == len(own) and all(name in names for name in own):
        raise ValueError(
            f"{path}: trained on these classes in another order, {names[:3]}...{explain_order(state)}, or train anew "
            "under another exp_name"
        )
    frozen = checkpoint["config"].get("frozen_blocks", 0)  # earlier versions froze none
    if frozen != state.frozen_blocks:
        raise ValueError(
            f"{path}: trained with frozen_blocks = {frozen}, not {state.frozen_blocks}; set it back, or start another "
            "exp_name from its weights with pretrained_model_weights_path"
        )
    if names != own:
        raise ValueError(f"{path}: trained on other classes, {names[:3]}...; check dataset_name")
    sums, limits = checkpoint["epoch_sums"], {"epoch": 2**31, "position": 2**31, best: 100, "ema_updates": 2**62}
    is_sound = all(0 <= checkpoint[key] <= limit for key, limit in limits.items())
    is_sound = is_sound and len(sums) in (4, 5) and all(is_number(value) for value in sums)  # 4 in the first version
    if not is_sound or not has_sound_record(checkpoint) or checkpoint["position"] > sums[3]:
        raise ValueError(f"{path}: damaged: its counts cannot be; take another checkpoint")
    check_weights(state.network, checkpoint["state_dict"], path)
    check_weights(state.ema_network.module, checkpoint["ema_state_dict"], path)
    try:
        check_optimizer(checkpoint["optimizer"], state)
        scaling = [checkpoint["scaler"][name] for name in SCALER_NUMBERS] if checkpoint["scaler"] else []
        if scaling and not is_int(checkpoint["scaler"]["_growth_tracker"], 0):
            raise ValueError("a scaler with an impossible count")
        if not all(is_number(value, 0) and value > 0 for value in scaling):
            raise ValueError("a scaler with impossible numbers")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its optimizer or scaler is not that of this network ({error!r})") from error


def explain_order(state: TrainState) -> str:
    """How the classes of a run can have come into another order, and what to do about it."""
    if state.rules is CLASSIFIER_RULES:
        return ", as earlier versions put folders named by numbers; finish it with the version that began it"
    return "; give them that order in the folder of data_dir, in classes.txt or by the ids of the categories"


def refuse_other_task(path: str | Path, checkpoint: dict[str, Any], best: str) -> None:
    """Raise ValueError if a checkpoint has another best score than `best`."""
    others = [key for key in checkpoint if isinstance(key, str) and key.startswith("best_") and key != best]
    if others:
        found = others[0][:80]
        raise ValueError(f"{path}: of a run that trains something else (it has {found}); choose another exp_name")


def has_sound_record(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint's record of config.py has plain values, and an epoch with room for its position."""
    record = checkpoint["config"]
    try:
        is_plain = to_plain(record) == record
    except (TypeError, ValueError, RecursionError):
        return False
    counts = {name: record.get(name, 1) for name in ("batch_size", "num_processes", "num_images")}
    if not is_plain or not all(is_int(value, 1) for value in counts.values()):
        return False
    done = checkpoint["position"] * counts["batch_size"] * counts["num_processes"]
    return done <= counts["num_images"] if checkpoint["position"] else True


SCALER_NUMBERS = ("scale", "growth_factor", "backoff_factor", "growth_interval")


def check_optimizer(saved: dict[str, Any], state: TrainState) -> None:
    """Raise one of many errors unless its momentum belongs to the parameters of the network, and is finite."""
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    if [index for group in saved["param_groups"] for index in group["params"]] != list(range(len(parameters))):
        raise ValueError("other parameters")
    if not saved["state"].keys() <= set(range(len(parameters))):
        raise ValueError("momentum of unknown parameters")
    for index, values in saved["state"].items():
        momentum = values["momentum_buffer"]
        if momentum is not None and not (momentum.shape == parameters[index].shape and momentum.isfinite().all()):
            raise ValueError(f"momentum {index} is misshapen or not finite")


def load_train_state(path: str | Path, checkpoint: dict[str, Any], state: TrainState, config: ModuleType) -> None:
    """Take over all of a checkpoint that check_train_state() accepted.

    The values of config.py hold; a line names each that has changed. Raises: ValueError if the network would compute
    something else with its weights, or if it stopped within an epoch and its batches would be others.
    """
    refuse_other_values(checkpoint, config, DEFINITION, path)
    before, now = checkpoint["config"], config_record(config, state)
    is_finished = checkpoint["epoch"] >= config.epochs  # and no value holds for anything any more
    if not is_finished:
        tell_changes(checkpoint["epoch"], before, now)
    if checkpoint["position"] and batches_of(before) != batches_of(now):
        raise ValueError(
            f"{path}: stopped within an epoch, which cannot go on with other batches: batch_size x processes, images, "
            f"gradient_accumulation_steps, seed were {batches_of(before)}, now {batches_of(now)}; set them back until "
            "the epoch is done, or remove this file to repeat the epoch"
        )
    load_weights(state.network, checkpoint["state_dict"], path)
    load_weights(state.ema_network.module, checkpoint["ema_state_dict"], path)
    state.ema_network.n_averaged.fill_(checkpoint["ema_updates"])
    state.start_epoch(checkpoint["epoch"])
    state.position = checkpoint["position"]
    best = checkpoint[f"best_{state.score}"]
    state.best_score = best if is_finished else best_so_far(best, before, now)
    if process_rank() == 0:  # the sums of all processes
        state.meter.sums[: len(checkpoint["epoch_sums"])] = torch.tensor(checkpoint["epoch_sums"], dtype=torch.float64)
    if checkpoint["scaler"] and state.scaler.is_enabled():
        state.scaler.load_state_dict(checkpoint["scaler"])
    saved = checkpoint["optimizer"]["state"]
    fill_momentum(state.optimizer, {index: values["momentum_buffer"] for index, values in saved.items()})
    set_schedule(state, math.ceil(state.position / config.gradient_accumulation_steps))


def tell_changes(epoch: int, before: dict[str, Any], now: dict[str, Any]) -> None:
    """A line for each value of config.py that has changed when a run goes on with an epoch, and for scenes seen again.

    before, now: the records of config.py of the two.
    """
    for name, value in now.items():
        if name not in ("mode", "resume") and before.get(name, value) != value:
            print(f"Resume: {name} was {before[name]!r}, now {value!r}: the new value holds.")
    wanted = now.get("train_scenes")  # of other tasks; an epoch begins at so many times its number
    if wanted and not now.get("data_dir") and epoch and is_int(before.get("train_scenes"), wanted + 1):
        print("Resume: with fewer train_scenes some scenes of the epochs before come again, then new ones.")


def best_so_far(score: float, before: dict[str, Any], now: dict[str, Any]) -> float:
    """The best score of a checkpoint; 0, with a line, if the network is now shown something else in validation.

    before, now: the records of config.py of the two. Another folder is mostly the same one in another place.
    """
    shown = ("image_size", "model_mean_parameters", "model_std_parameters", "apply_orientation", "model_output_stride")
    pictures = "valid_split" if now.get("data_dir") else "valid_scenes"  # of other tasks
    changed = [name for name in (*shown, pictures) if name in before and name in now and before[name] != now[name]]
    if not changed:
        return score
    print(
        f"Resume: with another {', '.join(changed)} the scores of validation do not compare with those before; the "
        "best weights will be those of an epoch from here on."
    )
    return 0.0


def fill_momentum(optimizer: torch.optim.Optimizer, saved: dict[int, Tensor | None]) -> None:
    """Give every parameter its momentum: that of its number in `saved`, or zero, after which the first step is as ever.

    torch's fused SGD leaves it unwritten if GradScaler skips the first step, and takes any strides for those of the
    parameter.
    """
    parameters = [(parameter, group) for group in optimizer.param_groups for parameter in group["params"]]
    for index, (parameter, group) in enumerate(parameters):
        if group["momentum"] > 0:
            momentum = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            earlier = saved.get(index)
            if earlier is not None:
                momentum.copy_(earlier)
            optimizer.state[parameter]["momentum_buffer"] = momentum


def batches_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """What decides which images a step takes, by a record of config.py."""
    batch = record.get("batch_size", 0) * record.get("num_processes", 1)
    return batch, record.get("num_images"), record.get("gradient_accumulation_steps"), record.get("seed")


def set_schedule(state: TrainState, steps_done: int) -> None:
    """Put the learning rate where the configured schedule has it after some steps of state.epoch.

    Counted anew, not read: the batch size may have changed since.
    """
    scheduler = state.scheduler
    step = state.epoch * state.steps_per_epoch + steps_done
    groups = zip(state.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    for group, peak, factor in groups:
        group["lr"] = peak * factor(step)
    rates = [group["lr"] for group in state.optimizer.param_groups]
    scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": step, "_step_count": step + 1, "_last_lr": rates})
