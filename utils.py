# SPDX-License-Identifier: Apache-2.0
"""What the scripts share, in three sections: runtime, metrics, checkpoints."""

import argparse
import ast
import contextlib
import ctypes
import difflib
import json
import math
import os
import pickle
import random
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

# ---------------------------------------------------------------------------------------------------------------------
# Runtime
# ---------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def user_errors(interrupted: str = "Interrupted.") -> Iterator[None]:
    """End the program with one line on stderr and status 2 (130 after Ctrl-C) instead of a traceback.

    `interrupted`: the line after Ctrl-C.
    For the mistakes of users: ValueError, OSError, FloatingPointError, lack of GPU memory, and whatever config.py
    itself raises. Anything else is a defect of this program and keeps its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = describe_error(error)
        if message is None:
            raise
        print(message, file=sys.stderr)
        sys.exit(2)


def describe_error(error: Exception) -> str | None:
    """The one line that tells a user what is wrong; None if the error is not theirs."""
    if isinstance(error, SyntaxError) and str(error.filename).endswith("config.py"):
        return f"config.py line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    if Path(last.filename).name == "config.py":
        return f"config.py line {last.lineno}: {error}"
    if isinstance(error, torch.OutOfMemoryError):
        return "The GPU has too little memory for this batch_size and image_size; lower batch_size in config.py"
    if isinstance(error, (ValueError, OSError, FloatingPointError)):
        # an error of a loader worker carries its traceback; the last line holds the message
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[-1].removeprefix(f"{type(error).__name__}: ")
    return None


def is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and abs(value) < 1e300 and least <= value <= most  # which no NaN is


def is_triple(value: object, least: float, most: float) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(is_number(v, least, most) for v in value)


def is_crop_scale(value: object) -> bool:
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(is_number(v, 0, 1) for v in value)
    return value is None or (is_pair and 0 < value[0] <= value[1])


def is_device(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"cpu|cuda(:\d|:[1-9]\d)?", value) is not None


Rule = tuple[Callable[[Any], bool], str]
FLAG: Rule = (lambda v: isinstance(v, bool), "True or False")
COUNT: Rule = (lambda v: is_int(v, 1), "an int >= 1")
WORKERS: Rule = (lambda v: is_int(v, 0), "an int >= 0")
SHARE: Rule = (lambda v: is_number(v, 0, 1), "a number from 0 to 1")
SHARE_BELOW_1: Rule = (lambda v: is_number(v, 0) and v < 1, "a number from 0 to below 1")
NOT_NEGATIVE: Rule = (lambda v: is_number(v, 0), "a number >= 0")
POSITIVE: Rule = (lambda v: is_number(v, 0) and v > 0, "a number above 0")
TEXT: Rule = (lambda v: isinstance(v, str), 'a string, "" for none')
PATH: Rule = (lambda v: isinstance(v, str) and v != "", "a path, as a string")
FOLDER_NAME: Rule = (
    lambda v: isinstance(v, str) and re.fullmatch(r"[^/\\.][^/\\]*", v) is not None,
    "the name of a folder: a string without / and not starting with a dot",
)
PRECISIONS = ("float32", "bfloat16", "float16", "auto")

# What each value of config.py must be. A test holds the two files together.
SHARED_RULES: dict[str, Rule] = {
    "mode": (lambda v: v in ("train", "test"), '"train" or "test"'),
    "dataset_name": FOLDER_NAME,
    "exp_name": FOLDER_NAME,
    "seed": (lambda v: is_int(v, 0) and v < 2**63, "an int >= 0"),
    "device": (is_device, '"cpu", "cuda" or "cuda:N"'),
    "precision": (lambda v: v in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "compile_model": FLAG,
    "image_size": (lambda v: is_int(v, 32), "an int >= 32"),
    "model_arch_name": (lambda v: v == "mobilenet_v2", '"mobilenet_v2"'),
    "model_width_mult": POSITIVE,
    "model_mean_parameters": (lambda v: is_triple(v, 0, 1), "three numbers from 0 to 1"),
    "model_std_parameters": (lambda v: is_triple(v, 1e-6, 1e6), "three numbers above 0"),
    "model_num_classes": COUNT,
    "model_weights_path": PATH,
    "inference_image_path": PATH,
    "class_label_file": TEXT,
}
TRAIN_RULES: dict[str, Rule] = {
    "train_image_dir": PATH,
    "valid_image_dir": PATH,
    "num_workers": WORKERS,
    "bad_images": (lambda v: v in ("stop", "skip"), '"stop" or "skip"'),
    "pretrained_model_weights_path": TEXT,
    "resume": TEXT,
    "epochs": COUNT,
    "batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "model_lr": POSITIVE,
    "lr_warmup_epochs": NOT_NEGATIVE,
    "model_momentum": SHARE_BELOW_1,
    "model_weight_decay": NOT_NEGATIVE,
    "model_ema_decay": SHARE_BELOW_1,
    "model_dropout": SHARE_BELOW_1,
    "loss_label_smoothing": SHARE,
    "random_crop_scale": (is_crop_scale, "None or two shares of the area, like (0.08, 1.0)"),
    "random_flip_probability": SHARE,
    "trivial_augment": FLAG,
    "random_erasing_probability": SHARE,
    "mixup_alpha": NOT_NEGATIVE,
    "cutmix_alpha": NOT_NEGATIVE,
    "train_print_frequency": COUNT,
    "valid_print_frequency": COUNT,
    "keep_checkpoints": COUNT,
}
TEST_RULES: dict[str, Rule] = {
    "test_image_dir": PATH,
    "batch_size": COUNT,
    "num_workers": WORKERS,
    "test_print_frequency": COUNT,
}
MODE_RULES = {"train": TRAIN_RULES, "test": TEST_RULES}


def check_config(config: ModuleType, needed_mode: str | None = None) -> None:
    """Check every value of config.py before the first slow action.

    `needed_mode`: the mode the calling script runs in; None takes either.
    Raises: ValueError for the first name that is missing, unknown or has a bad value, with its line.
    """
    mode = getattr(config, "mode", None)
    lines = config_lines(config)
    if mode in ("train", "test") and needed_mode not in (None, mode):
        raise ValueError(f'config.py line {lines["mode"]}: mode = "{mode}"; this script needs "{needed_mode}"')
    known = SHARED_RULES | TRAIN_RULES | TEST_RULES
    unknown = [name for name in lines if name not in known and not name.startswith("_")]
    for name, (is_valid, expected) in (SHARED_RULES | MODE_RULES.get(str(mode), {})).items():
        if not hasattr(config, name):
            close = difflib.get_close_matches(name, unknown, n=1)
            remedy = f"line {lines[close[0]]} sets {close[0]}: rename it" if close else f"set it to {expected}"
            raise ValueError(f"config.py: {name} is missing; {remedy}")
        value = getattr(config, name)
        if not is_valid(value):
            raise ValueError(f"config.py line {lines.get(name, '?')}: {name} = {value!r}; expected {expected}")
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"config.py line {lines[unknown[0]]}: unknown name {unknown[0]}{hint}; names of your own start with _"
        )


def config_lines(config: ModuleType) -> dict[str, int]:
    """The line that sets each name of config.py, in the block of its mode or outside the blocks."""
    lines = {}
    active_block = f"mode == {getattr(config, 'mode', None)!r}"
    for statement in ast.parse(Path(config.__file__).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) != active_block:
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and hasattr(config, node.id):
                lines[node.id] = node.lineno
    return lines


def setup_runtime(seed: int, device_name: str) -> torch.device:
    """Seed the generators, set the library flags, return the device: the first call of every main().

    Raises: ValueError if the device is not there.
    """
    device = torch.device(device_name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f'device = "{device_name}", but torch sees {torch.cuda.device_count()} GPUs; set it to "cpu" in config.py'
        )
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True  # all training batches have one shape, so tuning once pays
    if device.type == "cpu":
        keep_freed_memory()
    cv2.setNumThreads(0)  # the workers are the threads
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # load_image() reports unreadable files itself
    return device


def keep_freed_memory() -> None:
    """Let malloc reuse large blocks instead of giving them back to the system after every step.

    Otherwise each activation of a step on the CPU is paged in anew: more than a third of the time of a step.
    """
    with contextlib.suppress(AttributeError, TypeError):  # only glibc has mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Make what is random in the main process (dropout, mixup, cutmix) a function of (seed, epoch, step, rank)."""
    rank = 0
    torch.manual_seed(np.random.SeedSequence(seed, spawn_key=(epoch, step, rank)).generate_state(1, np.uint64).item())


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The arithmetic of the convolutions; "auto" takes what trains fastest natively.

    Raises: ValueError for float16 on the CPU.
    """
    if precision == "float16" and device.type == "cpu":
        raise ValueError('precision = "float16" needs a GPU; use "bfloat16", "float32" or "auto"')
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if capability >= (8, 0) else torch.float16 if capability >= (7, 0) else torch.float32
    # On the CPU, even with AVX512-BF16, a training step in bfloat16 takes longer than in float32: 1.9 times at 64
    # pixels, 1.5 at 96, 1.1 at 224. Scoring alone would gain (1.5 times as fast), at the cost of other answers.
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The autocast context of a precision; float32 switches it off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Metrics
# ---------------------------------------------------------------------------------------------------------------------


def topk_hits(logits: Tensor, targets: Tensor, ks: Sequence[int] = (1, 5)) -> Tensor:
    """Count the images whose true class is among the k highest logits (ILSVRC top-k).

    logits [N, C], targets [N] in 0..C-1 -> [len(ks)] int64 counts, not percent, on the device of `logits`, without
    a host sync. A k above C counts as C. Raises: ValueError if logits and targets disagree on N.
    """
    if len(logits) != len(targets):
        raise ValueError(f"{len(logits)} rows of logits, {len(targets)} targets")
    num_classes = logits.shape[1]
    best = logits.topk(min(max(ks), num_classes), dim=1).indices
    hits = best == targets[:, None]  # [N, max(ks)]
    return torch.stack([hits[:, : min(k, num_classes)].sum() for k in ks])


class EpochMeter:
    """Sums of loss and hits that stay on the device until averages() reads them."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)  # loss, top-1 hits, top-5 hits, images

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """loss: mean over the N images, nats; logits [N, C]; targets int64 [N]."""
        count = len(targets)
        self.sums[0] += loss.detach() * count
        self.sums[1:3] += topk_hits(logits.detach(), targets)
        self.sums[3] += count

    def averages(self) -> dict[str, float]:
        """Loss in nats, accuracies in percent, over all images added. The only call that waits for the device.

        Raises: FloatingPointError if the loss is not finite.
        """
        loss, hits1, hits5, images = self.sums.tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} in {images:.0f} images; lower model_lr in config.py")
        return {
            "loss": loss / images,
            "acc1": 100 * hits1 / images,
            "acc5": 100 * hits5 / images,
            "images": int(images),
        }


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device,
    dtype: torch.dtype,
    print_frequency: int,
    on_logits: Callable[[Tensor], None] = lambda logits: None,
) -> dict[str, float]:
    """Score every image of `batches` once; the result is EpochMeter.averages(). Leaves the network in eval mode.

    Prints a line every `print_frequency` batches. `on_logits` receives the float32 logits [N, C] of each batch.
    """
    network.eval()
    meter = EpochMeter(device)
    for index, (images, targets) in enumerate(batches, start=1):
        with autocast(device, dtype):
            logits = network(images)
        logits = logits.float()
        meter.add(nn.functional.cross_entropy(logits, targets), logits, targets)
        on_logits(logits)
        if index % print_frequency == 0:
            averages = meter.averages()
            print(
                f"Test: [{index:>{len(str(len(batches)))}}/{len(batches)}] Loss {averages['loss']:.4f} "
                f"Acc@1 {averages['acc1']:.2f} Acc@5 {averages['acc5']:.2f}",
                flush=True,
            )
    return meter.averages()


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints
# ---------------------------------------------------------------------------------------------------------------------
# samples/<exp_name>/epoch_N.pth.tar holds all of the training state:
#   epoch           int    finished epochs; training continues with this 0-based one
#   position        int    batches done in that epoch; 0 between two epochs
#   epoch_sums      list   the EpochMeter sums of these batches
#   best_acc1       float  best top-1 accuracy of the averaged weights on the validation set so far, percent
#   state_dict      dict   raw weights, bare names ("features.0.0.weight"), never "module." or "_orig_mod."
#   ema_state_dict  dict   averaged weights, same names: what is validated, tested and published
#   ema_updates     int    updates of the average so far; without it the next one would start its warm-up again
#   optimizer, scheduler, scaler    their state_dict()
#   class_names     list   the class folders in the order of the logits
#   config          dict   every value of config.py, to tell on resume what has changed
#
# results/<exp_name>/{best,last}.pth.tar hold weights to use:
#   state_dict      dict   the averaged weights, as they were validated
#   model_arch_name, model_width_mult, model_mean_parameters, model_std_parameters, image_size    as in config.py
#   class_names     list   as above
#   acc1            float  top-1 accuracy on the validation set, percent
#   epoch           int    finished epochs

CLASSIFIER = ("classifier.1.weight", "classifier.1.bias")


@dataclass
class TrainState:
    """Everything a training run carries from one step to the next."""

    network: nn.Module
    ema_network: AveragedModel
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    device: torch.device
    dtype: torch.dtype  # of the convolutions
    class_names: list[str]
    steps_per_epoch: int  # of the optimizer
    epoch: int = 0
    best_acc1: float = 0.0


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` on a temporary name beside `path`, then rename: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except RuntimeError as error:  # how torch.save tells of a full disk
        raise OSError(f"{path}: cannot be written ({str(error).splitlines()[0]}); the file before it stays") from error
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself must survive a power cut
    finally:
        os.close(folder)


def save_train_state(path: Path, state: TrainState, config: ModuleType) -> None:
    """Write samples/<exp_name>/epoch_N.pth.tar, whole or not at all."""
    checkpoint = {
        "epoch": state.epoch,
        "position": 0,
        "epoch_sums": [0.0] * 4,
        "best_acc1": state.best_acc1,
        "state_dict": state.network.state_dict(),
        "ema_state_dict": state.ema_network.module.state_dict(),
        "ema_updates": int(state.ema_network.n_averaged),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "scaler": state.scaler.state_dict(),
        "class_names": state.class_names,
        "config": config_record(config),
    }
    write_atomically(path, lambda partial: torch.save(checkpoint, partial))


def config_record(config: ModuleType) -> dict[str, Any]:
    """Every value of config.py that check_config knows, as plain types."""
    names = SHARED_RULES | MODE_RULES[config.mode]
    return to_plain({name: getattr(config, name) for name in names})


def save_weights(path: Path, state: TrainState, config: ModuleType, acc1: float) -> None:
    """Write results/<exp_name>/{best,last}.pth.tar, whole or not at all."""
    described = (
        *("model_arch_name", "model_width_mult", "model_mean_parameters", "model_std_parameters"),
        "image_size",
    )
    checkpoint = to_plain({name: getattr(config, name) for name in described})
    checkpoint |= {"class_names": state.class_names, "acc1": acc1, "epoch": state.epoch}
    checkpoint["state_dict"] = state.ema_network.module.state_dict()
    write_atomically(path, lambda partial: torch.save(checkpoint, partial))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of torch.save() into the CPU's memory, executing nothing in it.

    Raises: FileNotFoundError; ValueError naming the file if it is damaged or no checkpoint.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such weights file; see README.md for where to get one")
    with open(path, "rb") as file:  # failing here, for lack of permission, says nothing about the content
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):  # the options in torchvision's own files
                checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path}: damaged or not a PyTorch checkpoint, or one with Python objects, which could run code; save "
                "the state_dict() of the network with torch.save()"
            ) from error
        except Exception as error:  # a damaged file can raise almost anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            raise ValueError(f"{path}: damaged or not a PyTorch checkpoint ({reason})") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, not a dictionary of weights")
    return checkpoint


def extract_weights(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights of one of our files (the averaged ones), of a {"state_dict": ...} file or of a bare state dict.

    Prefixes of wrappers ("module.", "_orig_mod.") are stripped. Raises: ValueError if there are none.
    """
    weights = checkpoint.get("ema_state_dict", checkpoint.get("state_dict", checkpoint))
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path}: no state_dict of tensors in it")
    bare = {re.sub(r"^((module|_orig_mod)\.)+", "", str(name)): value for name, value in weights.items()}
    if len(bare) < len(weights):
        raise ValueError(f"{path}: holds the same weights twice, with and without a prefix; keep one of the two")
    return bare


def load_weights(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Copy the weights into the network.

    Strict: raises ValueError, before anything changes, naming what is missing, unknown, misshapen or not finite.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in weights]
    unknown = [name for name in weights if name not in expected]
    if missing or unknown:
        raise ValueError(
            f"{path}: its weights are not those of this network: missing {missing[:3]}, unknown {unknown[:3]} "
            f"({len(missing)} and {len(unknown)} in all)"
        )
    for name, tensor in expected.items():
        found = weights[name]
        if found.shape != tensor.shape or found.is_floating_point() != tensor.is_floating_point():
            raise ValueError(
                f"{path}: {name} is {found.dtype} {list(found.shape)}, the network has {tensor.dtype} "
                f"{list(tensor.shape)}; check model_width_mult and model_num_classes in config.py"
            )
        if not found.isfinite().all():
            raise ValueError(f"{path}: {name} has values that are not finite; the training run that made it diverged")
    network.load_state_dict(weights)


def load_pretrained_weights(network: nn.Module, path: str | Path) -> str:
    """Start a network from a weights file; a classifier for another number of classes is left as it is.

    Returns the line that tells what was done. Raises: ValueError if anything else does not fit.
    """
    weights = extract_weights(read_checkpoint(path), path)
    own = network.state_dict()
    found, wanted = (source[CLASSIFIER[0]] for source in (weights, own)) if CLASSIFIER[0] in weights else (None, None)
    is_new_task = found is not None and found.ndim == 2 and len(found) != len(wanted)
    if is_new_task:
        weights |= {name: own[name] for name in CLASSIFIER}
    load_weights(network, weights, path)
    if is_new_task:
        return (
            f"Load pretrained weights `{path}`; the classifier starts fresh: {len(wanted)} classes, not {len(found)}."
        )
    return f"Load pretrained weights `{path}`, classifier included."


def load_trained_network(network: nn.Module, config: ModuleType) -> list[str] | None:
    """Load config.model_weights_path for scoring; returns the class names if the file has them.

    Raises: ValueError if the file says it was trained with other values than config.py has.
    """
    path = config.model_weights_path
    checkpoint = read_checkpoint(path)
    record = checkpoint.get("config", checkpoint)  # a checkpoint of train.py, or a file of weights
    for name in ("model_width_mult", "model_mean_parameters", "model_std_parameters"):
        trained = record.get(name) if isinstance(record, dict) else None
        if isinstance(trained, (float, int, list)) and trained != to_plain(getattr(config, name)):
            line = config_lines(config).get(name, "?")
            raise ValueError(f"{path}: trained with {name} = {trained}; set config.py line {line} to it")
    load_weights(network, extract_weights(checkpoint, path), path)
    class_names = checkpoint.get("class_names")
    is_complete = isinstance(class_names, list) and len(class_names) == config.model_num_classes
    return [str(name) for name in class_names] if is_complete else None


def to_plain(value: Any) -> Any:
    """Tuples as lists and numpy's floats as Python's: values compare by what they say, and weights_only reads them."""
    return json.loads(json.dumps(value))


def resume_training(state: TrainState, config: ModuleType) -> Path | None:
    """Continue as config.resume says; returns the checkpoint taken, None if the run starts afresh.

    Raises: ValueError if the checkpoint cannot be used, or if an earlier run would be overwritten.
    """
    earlier = list_checkpoints(Path("samples", config.exp_name))
    if config.resume not in ("", "auto"):
        load_train_state(config.resume, read_checkpoint(config.resume), state, config)
        if earlier and epoch_number(earlier[-1]) > state.epoch:
            raise ValueError(
                f"{earlier[-1]}: later than the epoch {state.epoch} that resume goes back to; remove the later "
                "checkpoints, or choose another exp_name"
            )
        return Path(config.resume)
    if config.resume == "auto":
        for path in reversed(earlier):
            try:
                checkpoint = read_checkpoint(path)
            except ValueError as error:
                print(f"Resume: {error}; taking the one before.")
                continue
            load_train_state(path, checkpoint, state, config)
            return path
    refuse_to_overwrite(earlier, config)
    return None


def refuse_to_overwrite(earlier: list[Path], config: ModuleType) -> None:
    """Raise ValueError if there are checkpoints or weights of an earlier run."""
    last = Path("results", config.exp_name, "last.pth.tar")
    # A run killed between its first weights and its first checkpoint has nothing to lose.
    if earlier or (last.exists() and read_checkpoint(last).get("epoch") != 1):
        raise ValueError(
            f"{earlier[-1] if earlier else last}: of an earlier run with exp_name = {config.exp_name}; set resume = "
            f'"auto" (config.py line {config_lines(config).get("resume", "?")}) to continue it, or choose another '
            "exp_name, or delete that name's folders in samples, samples/logs and results"
        )


def list_checkpoints(folder: Path) -> list[Path]:
    """The epoch_N.pth.tar files of a folder, oldest epoch first."""
    return sorted((path for path in folder.glob("epoch_*") if EPOCH_FILE.fullmatch(path.name)), key=epoch_number)


def epoch_number(path: Path) -> int:
    """The N of epoch_N.pth.tar."""
    return int(EPOCH_FILE.fullmatch(path.name)[1])


EPOCH_FILE = re.compile(r"epoch_(\d+)\.pth\.tar")
TRAIN_STATE_TYPES = {
    **{"epoch": int, "position": int, "epoch_sums": list, "best_acc1": float, "ema_updates": int},
    **dict.fromkeys(("state_dict", "ema_state_dict", "optimizer", "scheduler", "scaler", "config"), dict),
    "class_names": list,
}


def load_train_state(path: str | Path, checkpoint: dict[str, Any], state: TrainState, config: ModuleType) -> None:
    """Take over all of a checkpoint. The values of config.py hold; a line names each that has changed.

    Raises: ValueError if the checkpoint is not one of train.py, or of another network or other classes.
    """
    for key, kind in TRAIN_STATE_TYPES.items():
        if not isinstance(checkpoint.get(key), kind):
            raise ValueError(f"{path}: cannot be resumed, it has no {key}; use samples/<exp_name>/epoch_N.pth.tar")
    if checkpoint["class_names"] != state.class_names:
        raise ValueError(f"{path}: trained on other classes, {checkpoint['class_names'][:3]}...; check dataset_name")
    for name, value in config_record(config).items():
        before = checkpoint["config"].get(name)
        if name not in ("mode", "resume") and before != value:
            print(f"Resume: {name} was {before!r}, now {value!r}: the new value holds.")
    load_weights(state.network, checkpoint["state_dict"], path)
    load_weights(state.ema_network.module, checkpoint["ema_state_dict"], path)
    state.ema_network.n_averaged.fill_(checkpoint["ema_updates"])
    state.epoch, state.best_acc1 = checkpoint["epoch"], checkpoint["best_acc1"]
    if checkpoint["scaler"] and state.scaler.is_enabled():
        state.scaler.load_state_dict(checkpoint["scaler"])
    configured = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict(checkpoint["optimizer"] | {"param_groups": configured})
    load_schedule(checkpoint["scheduler"], state)


def load_schedule(saved: dict[str, Any], state: TrainState) -> None:
    """Put the learning rate where the configured schedule has it at the start of state.epoch."""
    scheduler = state.scheduler
    scheduler.load_state_dict(saved | {"base_lrs": scheduler.base_lrs})
    scheduler.last_epoch = state.epoch * state.steps_per_epoch  # counted anew: the batch size may have changed
    for group, peak, factor in zip(state.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["lr"] = peak * factor(scheduler.last_epoch)
