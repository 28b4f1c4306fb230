# SPDX-License-Identifier: Apache-2.0
"""What the scripts share, in four sections: runtime, processes, metrics, checkpoints."""

import argparse
import ast
import contextlib
import ctypes
import difflib
import errno
import fcntl
import io
import json
import math
import multiprocessing
import os
import random
import re
import shlex
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, BinaryIO, TypeVar

import cv2
import numpy as np
import torch
import torch.distributed as dist
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
    except SystemExit as error:  # what there was to say has been said
        leave_if_joined(error.code)
        raise
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        leave_if_joined(130)
        sys.exit(130)
    except Exception as error:
        message = describe_error(error)
        if message is None:
            leave_if_joined(1, error)
            raise
        rank = os.environ.get("RANK", "0")
        print(f"process {rank}: {message}" if rank != "0" else message, file=sys.stderr)
        leave_if_joined(2)
        sys.exit(2)
    finally:
        end_workers()


def leave_if_joined(status: Any, defect: Exception | None = None) -> None:
    """End a process that is still connected with others at once, without what the interpreter does at its end.

    That would wait for what the GPU is to get from the others, which may have ended. `defect`: to show before.
    """
    if not dist.is_initialized():
        return
    if defect is not None:
        traceback.print_exception(defect)
    end_workers()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a closed pipe
            stream.flush()
    os._exit(status if isinstance(status, int) else 1)


def end_workers() -> None:
    """End what an error left of the loader workers: they ignore the signal by which Python would end them."""
    workers = multiprocessing.active_children()
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would take their end for a failure
    for worker in workers:
        worker.kill()
        worker.join()


def describe_error(error: Exception) -> str | None:
    """The one line that tells a user what is wrong; None if the error is not theirs."""
    if isinstance(error, SyntaxError) and str(error.filename).endswith("config.py"):
        return f"config.py line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    if Path(last.filename).name == "config.py":
        return f"config.py line {last.lineno}: {error}"
    if isinstance(error, torch.OutOfMemoryError):
        return "The GPU has too little memory for this batch_size and image_size; lower batch_size in config.py"
    if isinstance(error, RuntimeError) and re.search(r"gloo/transport|by peer|ProcessGroupNCCL", str(error)):
        return "Another process of this run has ended; what it printed says why"
    if isinstance(error, RuntimeError) and re.search(r"unable to (allocate|open|resize) shared memory", str(error)):
        return "/dev/shm is too small for the batches of the workers; lower num_workers or batch_size in config.py"
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return "A loader worker was killed, most often for lack of memory; lower num_workers or batch_size in config.py"
    if isinstance(error, OSError) and error.errno in NO_ROOM:  # of the log
        return f"{error.strerror}; make room for samples and results; the checkpoints before it stay"
    if isinstance(error, (ValueError, OSError, FloatingPointError)):
        # an error of a loader worker carries its traceback; the last line holds the message
        lines = str(error).strip().splitlines() or [type(error).__name__]
        message = lines[-1].removeprefix(f"{type(error).__name__}: ")
        message = re.sub(r"^\[Errno \d+\] (.+): b?'(.+)'$", r"\2: \1", message)  # Python's own words for a file
        return add_place(message) if isinstance(error, FileNotFoundError) else message
    return None


def add_place(message: str) -> str:
    """A message that begins with the path of what is not there; a relative path gets the place it stands for."""
    path = message.partition(": ")[0]
    if os.path.isabs(path) or os.path.exists(path):
        return message
    return f"{message} (looked for at {os.path.abspath(path)})"


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
PATH: Rule = (lambda v: isinstance(v, str) and v != "", "a path, as a string")
PATH_OR_NONE: Rule = (lambda v: isinstance(v, str), 'a string, "" for none')
FOLDER_NAME: Rule = (
    lambda v: isinstance(v, str) and re.fullmatch(r"(?!\.)[^/\\\x00-\x1f]{1,100}", v) is not None,
    "the name of a folder: a string of 1 to 100 characters without / and not starting with a dot",
)
PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "auto")

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
    "class_label_file": PATH_OR_NONE,
    "apply_orientation": FLAG,
    "deterministic": FLAG,
}
TRAIN_RULES: dict[str, Rule] = {
    "train_image_dir": PATH,
    "valid_image_dir": PATH,
    "num_workers": WORKERS,
    "bad_images": (lambda v: v in ("stop", "skip"), '"stop" or "skip"'),
    "cache_images": FLAG,
    "pretrained_model_weights_path": PATH_OR_NONE,
    "resume": PATH_OR_NONE,
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
    "sync_batch_norm": FLAG,
    "checkpoint_every_minutes": NOT_NEGATIVE,
    "keep_checkpoints": COUNT,
}
TEST_RULES: dict[str, Rule] = {
    "test_image_dir": PATH,
    "batch_size": COUNT,
    "num_workers": WORKERS,
    "test_print_frequency": COUNT,
}
MODE_RULES = {"train": TRAIN_RULES, "test": TEST_RULES}
# What other programs call some of them, where neither the words nor the spelling are alike.
OTHER_NAMES = {
    **dict.fromkeys(("lr", "lr0", "learning_rate", "base_lr", "max_lr", "peak_lr"), "model_lr"),
    **dict.fromkeys(("imgsz", "input_size", "crop_size", "resolution"), "image_size"),
    **dict.fromkeys(("model", "model_name", "backbone"), "model_arch_name"),
    **dict.fromkeys(("gpu", "gpus", "cuda"), "device"),
    **dict.fromkeys(("amp", "fp16", "half"), "precision"),
    **dict.fromkeys(("accum_iter", "grad_accum", "accumulate"), "gradient_accumulation_steps"),
    **{"weights": "model_weights_path", "wd": "model_weight_decay", "bs": "batch_size", "val_dir": "valid_image_dir"},
}


def check_config(config: ModuleType, needed_mode: str | None = None) -> None:
    """Check every value of config.py before the first slow action, and expand ~ in its paths.

    `needed_mode`: the mode the calling script runs in; None takes either.
    Raises: ValueError for the first name that is missing, unknown or has a bad value, with its line.
    """
    mode = getattr(config, "mode", None)
    lines = config_lines(config)
    if mode in ("train", "test") and needed_mode not in (None, mode):
        raise ValueError(f'config.py line {lines["mode"]}: mode = "{mode}"; this script needs "{needed_mode}"')
    known = SHARED_RULES | TRAIN_RULES | TEST_RULES
    unknown = [name for name in lines if name not in known and not name.startswith("_")]
    for name, rule in (SHARED_RULES | MODE_RULES.get(str(mode), {})).items():
        is_valid, expected = rule
        if not hasattr(config, name):
            meant = next((other for other in unknown if likely_name(other, [name])), None)
            remedy = f"line {lines[meant]} sets {meant}: rename it" if meant else f"set it to {expected}"
            raise ValueError(f"config.py: {name} is missing; {remedy}")
        value = getattr(config, name)
        if not is_valid(value):
            raise ValueError(f"config.py line {lines.get(name, '?')}: {name} = {value!r}; expected {expected}")
        if rule in (PATH, PATH_OR_NONE):
            setattr(config, name, os.path.expanduser(value))
    if unknown:
        meant = likely_name(unknown[0], known)
        hint = f" (did you mean {meant}?)" if meant else ""
        raise ValueError(
            f"config.py line {lines[unknown[0]]}: unknown name {unknown[0]}{hint}; names of your own start with _"
        )
    if config.precision in ("float16", "tf32") and config.device == "cpu":
        raise ValueError(
            f'config.py line {lines.get("precision", "?")}: precision = "{config.precision}" needs a GPU, and device = '
            f'"cpu" (line {lines.get("device", "?")}); set it to "float32" or "auto"'
        )
    if needed_mode == "train":
        check_together(config, lines)


def likely_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant: by a table, by the words in the two, else by their spelling."""
    name, known = name.lower(), list(known)
    if name in OTHER_NAMES:
        return OTHER_NAMES[name] if OTHER_NAMES[name] in known else None
    words = set(name.split("_"))
    alike = [other for other in known if words <= set(other.split("_")) or words >= set(other.split("_"))]
    return alike[0] if len(alike) == 1 else next(iter(difflib.get_close_matches(name, known, n=1)), None)


def check_together(config: ModuleType, lines: dict[str, int]) -> None:
    """Raise ValueError where values of a training run are right one by one, but not together."""
    line = {name: lines.get(name, "?") for name in SHARED_RULES | TRAIN_RULES}
    if config.lr_warmup_epochs >= config.epochs:
        raise ValueError(
            f"config.py line {line['lr_warmup_epochs']}: lr_warmup_epochs = {config.lr_warmup_epochs} is not below "
            f"epochs = {config.epochs} (line {line['epochs']}), so that the rate never falls; lower it, to a tenth of "
            "the epochs, say, or raise epochs"
        )
    side = math.ceil(config.image_size / 32)  # of the last feature map
    processes = int(os.environ.get("WORLD_SIZE", "1")) if config.sync_batch_norm else 1
    if config.batch_size * processes * side**2 < 2:
        raise ValueError(
            f"config.py line {line['batch_size']}: batch_size = 1 with image_size = {config.image_size} (line "
            f"{line['image_size']}) leaves batch-norm one value of each channel, and it needs 2; set batch_size to at "
            "least 2; 16 or more trains better"
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


def setup_runtime(seed: int, device_name: str, precision: str = "float32", deterministic: bool = False) -> torch.device:
    """Seed the generators, set the library flags, return the device: the first call of every main().

    Of several processes on one machine each takes its own GPU. Raises: ValueError if the device is not there.
    """
    device = torch.device(device_name)
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f'device = "{device}", but torch sees {torch.cuda.device_count()} GPUs; set it to "cpu" in config.py'
        )
    if device.index is not None:
        torch.cuda.set_device(device)  # else the loader's pinned memory would take a share of the first GPU
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    choose_float32(precision)
    choose_algorithms(deterministic)
    if device.type == "cpu":
        keep_freed_memory()
    cv2.setNumThreads(0)  # the workers are the threads
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # load_image() reports unreadable files itself
    return device


def choose_float32(precision: str) -> None:
    """Let a GPU round the factors of float32 products to the 10 bits of TF32, or not.

    By itself torch does so in convolutions: logits then differ in the third digit.
    """
    # Not the newer fp32_precision: after it torch refuses these two, which torch.compile reads.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def choose_algorithms(deterministic: bool) -> None:
    """Let a GPU take the fastest routine for each shape, or only those that give the same bits every time."""
    torch.backends.cudnn.benchmark = not deterministic  # all training batches have one shape, so tuning once pays
    torch.backends.cudnn.deterministic = deterministic
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # else the call would import torch's compiler
        torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # which takes time; nothing here reads such memory
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use


def keep_freed_memory() -> None:
    """Let malloc reuse large blocks instead of giving them back to the system after every step.

    Otherwise each activation of a step on the CPU is paged in anew: more than a third of the time of a step.
    """
    with contextlib.suppress(AttributeError, TypeError):  # only glibc has mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def check_workers(num_workers: int, batch_size: int, image_size: int, num_loaders: int) -> None:
    """Raise ValueError if loader workers could not pass their batches on: they would die, or wait, without a word."""
    if not num_workers:
        return
    folder = tempfile.gettempdir()  # they make sockets in it, with names like pymp-abcdefgh/listener-abcdefgh
    if sys.platform == "linux" and len(os.fsencode(folder)) > LONGEST_SOCKET_NAME - 32:
        raise ValueError(
            f"{folder}: too long a name for the folder of temporary files; set TMPDIR to one of at most "
            f"{LONGEST_SOCKET_NAME - 32} characters, or num_workers = 0 in config.py"
        )
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return
    # three of each worker: dataset.BATCHES_OF_WORKER
    batches = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) * num_loaders * 3 * num_workers
    needed = batches * batch_size * (3 * image_size**2 + 8)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder}: {free / 2**20:.1f} MiB free, {num_workers} workers need {needed / 2**20:.1f} MiB; lower "
            "num_workers or batch_size in config.py, or give the container more (docker run --shm-size)"
        )


LONGEST_SOCKET_NAME = 107  # unix(7)


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Make what is random in the main process (dropout, mixup, cutmix) a function of (seed, epoch, step, rank)."""
    key = (epoch, step, process_rank())
    torch.manual_seed(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64).item())


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The arithmetic of the convolutions; "auto" takes what trains fastest natively.

    "tf32" is float32 with other products: choose_float32(). Raises: ValueError for what the device does not have.
    """
    if precision == "float16" and device.type == "cpu":
        raise ValueError('precision = "float16" needs a GPU; use "bfloat16", "float32" or "auto"')
    if precision == "tf32":
        if device.type == "cpu" or torch.cuda.get_device_capability(device) < (8, 0):
            raise ValueError('precision = "tf32" needs a GPU of 2020 (Ampere) or later; use "float32" or "auto"')
        return torch.float32
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if capability >= (8, 0) else torch.float16 if capability >= (7, 0) else torch.float32
    # On a CPU with AVX512-BF16 a training step in bfloat16 takes 0.7 of the time in float32 at 224 pixels, but 1.4
    # times as long at 32; and scoring would give other answers.
    return torch.float32


def precision_name(precision: str, dtype: torch.dtype) -> str:
    """What `precision` = "auto" has become, and any other as it is: "tf32" is no dtype."""
    return str(dtype).removeprefix("torch.") if precision == "auto" else precision


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The autocast context of a precision; float32 switches it off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def compile_network(network: nn.Module, device: torch.device) -> None:
    """torch.compile a network in place, so that its weights keep their names; where that fails, say so in one line.

    Compiling a small function first shows what is missing before anything depends on it.
    """
    try:
        torch.compile(lambda values: values.cos() + 1)(torch.zeros(64, device=device))
        network.compile(backend=compile_or_run)
    except Exception as error:  # of any library of the compiler
        announce_no_compiling(error)


def compile_or_run(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    """The compiler for torch.compile: its own one, but a graph which that cannot compile runs as it is."""
    try:
        with (
            # the backward pass too, now: its failure in the middle of a step could not be made good
            torch._functorch.config.patch(force_non_lazy_backward_lowering=True),
            # dropout as without compiling, and no routines chosen by their time: the same seed gives the same run
            torch._inductor.config.patch(
                fallback_random=True, deterministic=torch.are_deterministic_algorithms_enabled()
            ),
        ):
            return torch._dynamo.lookup_backend("inductor")(graph, inputs)
    except Exception as error:
        announce_no_compiling(error)
        return graph


def announce_no_compiling(error: Exception) -> None:
    reason = f"{getattr(error, 'inner_exception', error)}".strip().partition("\n")[0]
    print(f"compile_model: torch.compile does not work here ({reason}); continuing without.", flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------------
# One process, or several that torchrun started: only this section asks which. Rank 0 prints and writes.

Result = TypeVar("Result")


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[None]:
    """Connect the processes that torchrun started; nothing is done for a single one.

    After an error they stay connected, and user_errors() ends this one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # What the CPU decides (signals, counts) never waits for the GPU: gloo beside nccl.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, size = meeting_store()
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    if process_rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    yield
    # Not after an error, of which nobody has read yet: it waits until the GPU has what the others were to send.
    dist.destroy_process_group()


def meeting_store() -> tuple[dist.Store, int, int]:
    """Where the processes of this start find each other; the rank of this one, and how many there are.

    torchrun's own store outlives a restart, with the addresses of the processes that ended, for which new ones would
    wait; it only says where to find process 0. Raises: ConnectionError if that cannot be reached in 5 minutes.
    """
    store, rank, size = next(dist.rendezvous("env://"))
    host = os.environ["MASTER_ADDR"]
    if rank == 0:
        meeting = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        store.set(MEETING_PORT, str(meeting.port))
        return meeting, rank, size
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        port = int(store.get(MEETING_PORT))
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError:  # the port of a process 0 that has ended
            time.sleep(0.1)
        else:
            return dist.TCPStore(host, port, wait_for_workers=False), rank, size
    raise ConnectionError(f"{host}:{port}: process 0 cannot be reached; let the machines connect on all ports")


MEETING_PORT = "meeting port"


def restarts_store() -> dist.Store | None:
    """What torchrun keeps from one start of the processes to the next; None without torchrun."""
    return next(dist.rendezvous("env://"))[0] if "TORCHELASTIC_RUN_ID" in os.environ else None


def process_rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_processes() -> int:
    """How many processes train or test together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in all of them."""
    total = values.clone()
    if num_processes() > 1:
        dist.all_reduce(total)
    return total


def least_over_processes(value: int) -> int:
    """The smallest of the values that the processes have."""
    least = torch.tensor(value)
    if num_processes() > 1:
        dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)


def from_main(action: Callable[[], Result]) -> Result:
    """Do something in process 0 alone, and give its result to all; if it raises, all processes leave."""
    if num_processes() == 1:
        return action()
    answer: list[Any] = [None, None]
    try:
        if process_rank() == 0:
            answer = [None, action()]
    except BaseException as error:
        dist.broadcast_object_list([str(error) or type(error).__name__, None], device=torch.device("cpu"))
        raise
    dist.broadcast_object_list(answer, device=torch.device("cpu"))
    if answer[0] is not None:
        sys.exit(2)  # process 0 has said why
    return answer[1]


def share_buffers(network: nn.Module) -> None:
    """Give the networks of all processes the batch-norm statistics of process 0, which are those that are saved."""
    if num_processes() > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)


def gather_to_main(value: Any) -> list[Any]:
    """The values of all processes in their order, in process 0; in the others an empty list."""
    if num_processes() == 1:
        return [value]
    values = [None] * num_processes() if process_rank() == 0 else None
    dist.gather_object(value, values)
    return values or []


class Interruptions:
    """What may come between two steps: SIGINT or SIGTERM, which are remembered, and the time for a checkpoint.

    Outside came() and agree() both are blocked in this thread, and so in the processes it starts: Ctrl-C, which a
    terminal sends to all of them, would otherwise kill the compiler that torch.compile has started for a step.
    A thread of its own takes them, and so also while a step waits for a file for ever: it says what comes, and ends
    the run at once if one comes again. torchrun sends a second one by itself, within moments of the first.
    `folder`: what only_run() holds.
    """

    def __init__(self, checkpoint_every_minutes: float, folder: Path) -> None:
        self.signal = 0
        self.period = 60 * checkpoint_every_minutes
        self.began = time.monotonic()  # which no change of the clock moves
        self.folder = folder
        self.announcing = threading.Lock()
        self.is_leaving = self.is_ending = False  # after a signal between two steps; at once
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # gets each signal, whichever thread has to take it
        for number in SIGNALS:
            signal.signal(number, self._remember)
        block_signals(True)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or number
        if self.is_ending:
            signal.signal(signal.SIGCHLD, lambda *_: None)  # torch's handler takes the end of workers for a failure
            time.sleep(END_SECONDS)  # the other thread is sooner

    def _watch(self, reader: int) -> None:
        """What the other thread does."""
        block_signals(False)
        first = None
        while received := os.read(reader, 1):
            number = received[0]
            if number not in SIGNALS:  # SIGCHLD
                continue
            if first is None:
                first = time.monotonic()
                self._announce(signal.Signals(number).name)
            elif time.monotonic() - first >= SECOND_SIGNAL_SECONDS:
                self._end(number)

    def _announce(self, name: str) -> None:
        with self.announcing:
            if not self.is_leaving:  # else the line of the end is under way
                say_at_once(
                    f"{name}: finishing this step; sent again after {SECOND_SIGNAL_SECONDS} seconds or more, it ends "
                    "the run at once."
                )

    def _end(self, number: int) -> None:
        """End the process, its workers, and what only_run() would remove."""
        self.is_ending = True
        signal.raise_signal(number)  # the main thread, if it goes on, comes to _remember() before it sees workers end
        threading.Timer(END_SECONDS, os._exit, [128 + number]).start()  # a file system that hangs holds this up too
        try:
            say_at_once(f"{signal.Signals(number).name} again: ended at once; what was saved before stays.")
            workers = multiprocessing.active_children()
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.join()
            if process_rank() == 0:
                with open(self.folder / LOCK_NAME, "rb") as file:
                    remove_traces(self.folder, file)
        finally:
            os._exit(128 + number)

    def came(self) -> bool:
        """Whether this process got a signal."""
        block_signals(False)  # what has waited is remembered now
        block_signals(True)
        return self.signal != 0

    def agree(self) -> tuple[int, bool]:
        """The signal that any of the processes got, 0 for none, and whether a checkpoint is due; the same in all."""
        self.came()
        number, is_due = self.signal, 0 < self.period <= time.monotonic() - self.began
        if num_processes() > 1:
            answers = torch.tensor([number, is_due])
            dist.all_reduce(answers, dist.ReduceOp.MAX)
            number, is_due = int(answers[0]), bool(answers[1])  # a signal that came meanwhile waits for the next time
        if number:
            with self.announcing:
                self.is_leaving = True
        if is_due:
            self.began = time.monotonic()
        return number, is_due


SECOND_SIGNAL_SECONDS = 2  # from the first one to one that counts
END_SECONDS = 5
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def say_at_once(line: str) -> None:
    """Write a line to stderr past Python's buffers, whose locks a thread that hangs may hold; in process 0 alone."""
    if process_rank() == 0:
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())


def block_signals(is_blocked: bool) -> None:
    """Let SIGINT and SIGTERM wait, or let them come, in this thread and the processes it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK if is_blocked else signal.SIG_UNBLOCK, SIGNALS)


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a folder for this run; the system lets go of it however the process ends.

    What a killed run has left in /dev/shm is removed. Raises: ValueError if another run holds the folder.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    with open_lock(folder / LOCK_NAME) as file:
        if not try_lock(file.fileno()):
            file.seek(0)
            raise ValueError(
                f"{folder}: in use by another run, process {file.readline().decode().strip()}; wait for its end, or "
                "choose another exp_name"
            )
        remove_shared_memory(file)
        file.truncate(0)
        try:
            file.write(f"{os.getpid()}\n".encode())
            yield
        except BaseException:
            end_workers()
            raise
        finally:
            remove_traces(folder, file)
            with contextlib.suppress(OSError):  # a run that was refused leaves nothing, others leave files
                for path in created:
                    path.rmdir()


LOCK_NAME = ".lock"  # its lines are the numbers of the processes


def remove_traces(folder: Path, lock: BinaryIO) -> None:
    """Remove what would tell the next start of this run: its lock, and memory of the workers that have ended."""
    remove_shared_memory(lock)
    (folder / LOCK_NAME).unlink(missing_ok=True)


def note_worker(folder: Path) -> None:
    """Note this process, a worker, in the folder of its run; in the main one, closing the file would end the lock."""
    with contextlib.suppress(OSError), open(folder / LOCK_NAME, "a") as file:  # a folder that vanished is made anew
        file.write(f"{os.getpid()}\n")


def remove_shared_memory(lock: BinaryIO) -> None:
    """Remove what processes of a lock that have ended left in /dev/shm: a batch has a name there for a microsecond."""
    lock.seek(0)
    for number in filter(bytes.isdigit, lock.read().split()):
        if not Path(f"/proc/{int(number)}").exists():
            for path in Path("/dev/shm").glob(f"torch_{int(number)}_*"):
                with contextlib.suppress(OSError):
                    path.unlink()


def open_lock(path: Path) -> BinaryIO:
    """Open the lock file of a folder, both made if need be. Raises: OSError in words for users."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+b", buffering=0)
    except OSError as error:
        raise describe_write_error(path, error) from error


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process and not for its children; where there are no such locks, do without."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_nlink > 0  # else a run that ended just now has removed it
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # some network disks have no locks
        return True


class SumOverProcesses(torch.autograd.Function):
    """sum_over_processes() with its gradient: every process has a part in every sum."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return sum_over_processes(values)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient)


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch-norm over the images of all processes, for the CPU, where torch.nn.SyncBatchNorm does not run."""

    def forward(self, images: Tensor) -> Tensor:
        """float [N, C, H, W] -> the same shape."""
        if not self.training:
            return super().forward(images)
        axes, count = (0, 2, 3), images.numel() // images.shape[1] * num_processes()
        precise = images.to(self.running_mean.dtype)
        mean = SumOverProcesses.apply(precise.sum(axes)) / count
        centred = precise - mean[:, None, None]
        variance = SumOverProcesses.apply(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight / (variance + self.eps).sqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)


def synchronize_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch-norm take the images of all processes together; the names of the weights stay."""
    if num_processes() == 1:
        return network
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm  # which adds no state of its own
    return network


def parallelize(network: nn.Module, device: torch.device) -> nn.Module:
    """What training calls: the network, or DistributedDataParallel around it, which averages the gradients."""
    if num_processes() == 1:
        return network
    return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def without_averaging(network: nn.Module) -> contextlib.AbstractContextManager:
    """Within it, gradients of several batches add up before the processes average them."""
    is_parallel = isinstance(network, nn.parallel.DistributedDataParallel)
    return network.no_sync() if is_parallel else contextlib.nullcontext()


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
        # loss, top-1 hits, top-5 hits, images, steps that float16 skipped
        self.sums = torch.zeros(5, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """loss: mean over the N images, nats; logits [N, C]; targets int64 [N]."""
        count = len(targets)
        self.sums[0] += loss.detach() * count
        self.sums[1:3] += topk_hits(logits.detach(), targets)
        self.sums[3] += count

    def count_skipped(self, norm: Tensor) -> None:
        """Note a step that float16 skips if the norm of its gradients, the same in all processes, is not finite."""
        if process_rank() == 0:
            self.sums[4] += ~norm.isfinite()

    def over_processes(self) -> "EpochMeter":
        """The sums of all processes."""
        total = EpochMeter(self.sums.device)
        total.sums = sum_over_processes(self.sums)
        return total

    def averages(self, remedy: str = "lower model_lr in config.py") -> dict[str, float]:
        """Loss in nats, accuracies in percent, over all images added. The only call that waits for the device.

        Raises: FloatingPointError, which ends with `remedy`, if the loss is not finite.
        """
        loss, hits1, hits5, images, skipped = self.sums.tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} in {images:.0f} images; {remedy}")
        return {
            "loss": loss / images,
            "acc1": 100 * hits1 / images,
            "acc5": 100 * hits5 / images,
            "images": int(images),
            "skipped": int(skipped),
        }


def show_scores(values: dict[str, float], num_classes: int, digits: int) -> str:
    """Those of SCORES that there are, like "Acc@1 83.90 Acc@5 95.90"; of 5 classes or fewer no best five."""
    keys = [key for key in SCORES if key in values and (num_classes > 5 or not key.endswith("5"))]
    return " ".join(f"{SCORES[key]} {values[key]:.{digits}f}" for key in keys)


SCORES = {"acc1": "Acc@1", "acc5": "Acc@5", "err1": "Err@1", "err5": "Err@5"}


class FiniteCheck:
    """Remembers, on the device, the first batches of an epoch whose loss and whose gradient is not finite."""

    def __init__(self, device: torch.device) -> None:
        self.first = torch.full((2,), NO_BATCH, device=device)

    def add_loss(self, number: int, loss: Tensor) -> None:
        """Note the loss of a batch."""
        self._add(0, number, loss)

    def add_gradient(self, number: int, norm: Tensor) -> None:
        """Note the norm of the gradients, those of all processes, that a batch has completed."""
        self._add(1, number, norm)

    def _add(self, place: int, number: int, value: Tensor) -> None:
        # Not torch.where(): it would copy the two numbers to the device, and wait for it.
        found = torch.full_like(self.first[place], number).masked_fill_(value.detach().isfinite(), NO_BATCH)
        self.first[place] = torch.minimum(self.first[place], found)

    def first_batches(self) -> list[int]:
        """The numbers of these batches in this process, NO_BATCH where there is none. Waits for the device."""
        return self.first.tolist()


NO_BATCH = 2**62


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device,
    dtype: torch.dtype,
    print_frequency: int,
    on_logits: Callable[[Tensor], None] = lambda logits: None,
    should_stop: Callable[[], bool] = lambda: False,
    remedy: str = "lower model_lr in config.py",
) -> dict[str, float]:
    """Score every image once, each process its batches; EpochMeter.averages() of all. Leaves the network in eval mode.

    Prints a line every `print_frequency` batches. `on_logits` receives the float32 logits [N, C] of each batch.
    `should_stop`: asked after each batch; if it says so, the result is that of the batches so far.
    Raises: FloatingPointError, which ends with `remedy`, if the loss is not finite.
    """
    network.eval()
    meter = EpochMeter(device)
    for index, (images, targets) in enumerate(batches, start=1):
        with autocast(device, dtype):
            logits = network(images)
        logits = logits.float()
        meter.add(nn.functional.cross_entropy(logits, targets), logits, targets)
        on_logits(logits)
        if should_stop():
            break
        if index % print_frequency == 0:
            averages = meter.averages(remedy)
            print(
                f"Test: [{index:>{len(str(len(batches)))}}/{len(batches)}] Loss {averages['loss']:.4f} "
                f"{show_scores(averages, logits.shape[1], 2)}",
                flush=True,
            )
    return meter.over_processes().averages(remedy)


def remedy_for_weights(config: ModuleType, dtype: torch.dtype) -> str:
    """What to do about trained weights whose logits are infinite or NaN."""
    if dtype == torch.float16:
        line = config_lines(config).get("precision", "?")
        return f'float16 has no numbers above 65,504: set precision = "float32" (config.py line {line})'
    line = config_lines(config).get("model_weights_path", "?")
    return f"the run that made these weights diverged: set model_weights_path (config.py line {line}) to others"


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints
# ---------------------------------------------------------------------------------------------------------------------
# samples/<exp_name>/epoch_N.pth.tar, and interrupted.pth.tar within an epoch, hold all of the training state:
#   epoch           int    finished epochs; training continues with this 0-based one
#   position        int    batches done in that epoch by each process: all of them before validation, 0 between epochs
#   epoch_sums      list   the EpochMeter sums of these batches
#   best_acc1       float  best top-1 accuracy of the averaged weights on the validation set so far, percent
#   state_dict      dict   raw weights, bare names ("features.0.0.weight"), never "module." or "_orig_mod."
#   ema_state_dict  dict   averaged weights, same names: what is validated, tested and published
#   ema_updates     int    updates of the average so far; without it the next one would start its warm-up again
#   optimizer, scheduler, scaler    their state_dict()
#   class_names     list   the class folders in the order of the logits
#   config          dict   every value of config.py, the number of processes and of training images: what may change
#
# results/<exp_name>/{best,last}.pth.tar hold weights to use:
#   state_dict      dict   the averaged weights, as they were validated
#   model_arch_name, model_width_mult, model_mean_parameters, model_std_parameters, image_size, apply_orientation
#                          as in config.py
#   class_names     list   as above
#   acc1            float  top-1 accuracy on the validation set, percent
#   epoch           int    finished epochs

CLASSIFIER = ("classifier.1.weight", "classifier.1.bias")


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
    epoch: int = 0
    position: int = 0  # batches done in this epoch
    best_acc1: float = 0.0

    def start_epoch(self, epoch: int) -> None:
        """Be at the beginning of an epoch."""
        self.epoch, self.position = epoch, 0
        self.meter, self.finite = EpochMeter(self.device), FiniteCheck(self.device)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file in memory, write it beside `path`, then rename: a crash leaves the old file or the new.

    Raises: OSError naming the file, the reason and what to do.
    """
    content = io.BytesIO()  # torch.save, writing to a disk itself, hides why that failed
    write(content)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise describe_write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk even what is not there cannot be removed
            partial.unlink()


def describe_write_error(path: Path, error: OSError) -> OSError:
    """The error to raise where a file cannot be written: which, why, and what to do."""
    remedy = "make room for it" if error.errno in NO_ROOM else "it needs a folder that can be written to"
    return OSError(f"{path}: {error.strerror or error}; {remedy}; the files before it stay")


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_train_state(path: Path, state: TrainState, config: ModuleType) -> None:
    """Write all of the training state, whole or not at all. All processes call it; process 0 writes.

    Raises: OSError if it cannot be written.
    """
    sums = state.meter.over_processes().sums.tolist()
    checkpoint = {
        "epoch": state.epoch,
        "position": state.position,
        "epoch_sums": sums,
        "best_acc1": state.best_acc1,
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
    names = SHARED_RULES | MODE_RULES[config.mode]
    values = to_plain({name: getattr(config, name) for name in names})
    return values | {"num_processes": num_processes(), "num_images": state.num_images}


def save_weights(path: Path, state: TrainState, config: ModuleType, acc1: float) -> None:
    """Write results/<exp_name>/{best,last}.pth.tar, whole or not at all."""
    described = (
        *("model_arch_name", "model_width_mult", "model_mean_parameters", "model_std_parameters"),
        *("image_size", "apply_orientation"),
    )
    checkpoint = to_plain({name: getattr(config, name) for name in described})
    checkpoint |= {"class_names": state.class_names, "acc1": acc1, "epoch": state.epoch}
    checkpoint["state_dict"] = averaged_weights(state)
    write_atomically(path, lambda partial: torch.save(checkpoint, partial))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of torch.save() into the CPU's memory, executing nothing in it.

    Its containers are plain ones and its tensors dense, with the memory that they claim. Only files in torch's old
    format, which is no zip file, come without checksums.
    Raises: FileNotFoundError, OSError; ValueError naming the file if it is damaged, of another kind, or no checkpoint.
    """
    with open_weights_file(path) as file:
        if foreign := foreign_kind(file):
            kind, remedy = foreign
            raise ValueError(f"{path}: {kind}; {remedy or conversion(path)}")
        try:
            allowed = torch.serialization.safe_globals([argparse.Namespace])  # the options in torchvision's own files
            with warnings.catch_warnings(action="ignore"), allowed:  # the one line to show is the error
                checkpoint = plain_copy(torch.load(verified_copy(file), map_location="cpu", weights_only=True))
        except Exception as error:  # a damaged file can raise almost anything
            reason = describe_damage(error)
            raise ValueError(f"{path}: damaged or not a PyTorch checkpoint ({reason}); get or save it again") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, not a dictionary of weights; name another file")
    return checkpoint


def open_weights_file(path: str | Path) -> BinaryIO:
    """Open a file for reading. Raises: OSError, ValueError, in words for users; they say nothing about the content."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            return open(path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file; train first, or see README.md for other weights") from error
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror}; name a weights file that you may read") from error
    raise ValueError(f"{path}: a folder or device, not a weights file; name a file of torch.save()")


SAFETENSORS, TORCHSCRIPT = "a .safetensors file", "a TorchScript archive"
NOT_TORCH = "these scripts read PyTorch's files and .safetensors; save or export it as one of them"
# How files begin, or what is in zip files, that torch.save() did not write: what they are, and what to do with them,
# "" where scripts/convert_weights.py reads them.
FOREIGN_STARTS = {
    rb".{4}\0{4}\{": (SAFETENSORS, ""),  # the length of its header, which the format limits to 100 MB, and the header
    rb"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras writes", NOT_TORCH),
    rb".{4}TFL3": ("a TFLite model", NOT_TORCH),
    rb"\x08[\x01-\x1f]\x12": ("an ONNX model", NOT_TORCH),  # its version, then the program that wrote it
    rb"\s*<(?i:!doctype html|html)": ("a web page, not the file", "download the file itself"),
    rb"version https://git-lfs": ("a pointer of Git LFS, not the file", "`git lfs pull` fetches it"),
    rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ|7z\xbc\xaf|Rar!": ("a compressed file", "if the weights are in it, unpack them"),
}
FOREIGN_RECORDS = {
    r"[^/]+/constants\.pkl": (TORCHSCRIPT, ""),
    r"model\.weights\.h5": ("a Keras model", NOT_TORCH),
    r"[^/]+/(archive_format|models/.+\.json)|serialized_exported_program\.json": (
        "a program of torch.export",
        "save the state_dict() of the network that it was made from",
    ),
}


def foreign_kind(file: BinaryIO) -> tuple[str, str] | None:
    """What a file is that torch.save() did not write, and what to do with it; None if nothing tells.

    Known by its first bytes, or by its records. What to do is "" where scripts/convert_weights.py reads it.
    """
    start = file.read(512)
    file.seek(0)
    for pattern, foreign in FOREIGN_STARTS.items():
        if re.match(pattern, start, re.DOTALL):
            return foreign
    if not start.startswith(b"PK\x03\x04"):
        return None
    try:
        names = zipfile.ZipFile(file).namelist()
    except Exception:  # a damaged file can raise almost anything; reading it tells what is wrong
        return None
    finally:
        file.seek(0)
    for pattern, foreign in FOREIGN_RECORDS.items():
        if any(re.fullmatch(pattern, name) for name in names):
            return foreign
    is_torch = any(name.endswith("data.pkl") for name in names)
    return None if is_torch else ("a zip file of other things", "if the weights are in it, unpack them")


def conversion(path: str | Path) -> str:
    """The command that makes a file for these scripts of one of another project."""
    target = beside_pretrained(path, "")
    if target.exists():
        target = beside_pretrained(path, "-converted")
    return f"`python3 scripts/convert_weights.py {shlex.quote(str(path))} {shlex.quote(str(target))}` reads it"


def beside_pretrained(path: str | Path, ending: str) -> Path:
    """Where to put what is made of a file of weights."""
    name = re.sub(r"(\.(pth|pt|tar|ckpt|bin|safetensors))+$", "", Path(path).name)
    return Path("results/pretrained_models", f"{name}{ending}.pth.tar")


def describe_damage(error: Exception) -> str:
    """Why a file could not be read, in one printable line."""
    reason = "its content is not what torch.save() writes"
    if forbidden := re.search(r"GLOBAL (\S+)", str(error)):  # torch's own words recommend to execute it
        reason = (
            f"it asks to run {forbidden[1]}: Python objects, which could run code; save the state_dict() of the network"
        )
    elif isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        reason = "it asks for more memory than there is"
    elif isinstance(error, (ValueError, RuntimeError, OSError, zipfile.BadZipFile)):
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"[^ -~]", "?", reason)[:160]


def verified_copy(file: BinaryIO, wanted: str = ".+") -> BinaryIO:
    """A file in memory with the records of a zip file whose checksums are right; any other file as it is.

    torch.load compares no checksums, and one flipped bit in the table of contents makes it return a tensor without
    reading it; from this copy it can only get what was verified. `wanted`: which names of records are copied.
    Raises: ValueError and others for a damaged file.
    """
    is_zip = file.read(4) == b"PK\x03\x04"  # what torch.load goes by
    file.seek(0)
    if not is_zip:
        return file
    if not zipfile.is_zipfile(file):
        raise ValueError("its end is missing")
    copy = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(copy, "w") as target:
        records = [record for record in source.infolist() if re.fullmatch(wanted, record.filename, re.DOTALL)]
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise ValueError("its records are compressed")
        if any(record.file_size != record.compress_size for record in records):
            raise ValueError("its records have two lengths")
        if sum(record.file_size for record in records) > os.fstat(file.fileno()).st_size:
            raise ValueError("its records claim more bytes than it has")
        if len({record.filename for record in records}) < len(records):
            raise ValueError("it has two records of one name")
        for record in records:
            target.writestr(zipfile.ZipInfo(record.filename), source.read(record))  # read() compares the checksum
    copy.seek(0)
    return copy


def plain_copy(value: Any, name: Any = "", depth: int = 0, copies: dict[int, Any] | None = None) -> Any:
    """What torch.load returned, in plain dictionaries, lists and tuples; tensors share their memory with the original.

    A hostile file can give its dictionaries and tensors attributes that hide their methods; copies have none of them.
    `name`, `depth`, `copies`: of the recursion. Raises: ValueError for tensors that are not dense or claim more values
    than they have, and for containers nested too deep, as one that holds itself.
    """
    copies = {} if copies is None else copies
    if id(value) in copies:
        return copies[id(value)]
    if depth > MAX_NESTING:
        raise ValueError("it is nested too deep, or holds itself")
    if isinstance(value, Tensor):
        copy = plain_tensor(value, name)
    elif isinstance(value, dict):
        copy = {key: plain_copy(item, key, depth + 1, copies) for key, item in dict.items(value)}
    elif isinstance(value, argparse.Namespace):
        copy = plain_copy(vars(value), name, depth + 1, copies)
    elif isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        copy = kind(plain_copy(item, name, depth + 1, copies) for item in value)
    else:
        copy = value
    copies[id(value)] = copy
    return copy


MAX_NESTING = 50


def plain_tensor(tensor: Tensor, name: Any) -> Tensor:
    """A tensor without attributes, on the same memory. Raises: ValueError if it is not dense, or short of values."""
    bare = Tensor.detach(tensor)
    shown = repr(name)[:80] if isinstance(name, str) else "a tensor"
    is_dense = bare.layout is torch.strided and bare.device.type == "cpu"
    if not is_dense or bare.is_quantized or bare.is_nested or bare.is_complex():
        raise ValueError(f"{shown} is sparse, quantized or complex")
    if bare.numel() * bare.element_size() > bare.untyped_storage().nbytes():
        raise ValueError(f"{shown} claims {bare.numel()} values and has fewer")
    return bare


def extract_weights(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights of one of our files (the averaged ones), of a {"state_dict": ...} file or of a bare state dict.

    Prefixes of wrappers ("module.", "_orig_mod.") are stripped. Raises: ValueError if there are none.
    """
    weights = checkpoint.get("ema_state_dict", checkpoint.get("state_dict", checkpoint))
    is_named = isinstance(weights, dict) and all(isinstance(name, str) for name in weights)
    if not is_named or not all(isinstance(value, Tensor) for value in weights.values()):
        inside = [str(name) for name, value in checkpoint.items() if holds_weights(value)]
        if inside or holds_weights(weights):
            place = f"in {inside[0][:80]!r}" if inside else "among other values"
            raise ValueError(f"{path}: has its weights {place}, as others save them; {conversion(path)}")
        raise ValueError(f"{path}: no state_dict of tensors in it; name a file of weights")
    bare = {re.sub(r"^((module|_orig_mod)\.)+", "", name): value for name, value in weights.items()}
    if len(bare) < len(weights):
        raise ValueError(f"{path}: holds the same weights twice, with and without a prefix; keep one of the two")
    return bare


def holds_weights(value: Any) -> bool:
    """Whether a value of a checkpoint is a dictionary with tensors of layers in it, or in one of its dictionaries."""
    if not isinstance(value, dict):
        return False
    inner = [item for item in value.values() if isinstance(item, dict)]
    tensors = [name for part in (value, *inner) for name, item in part.items() if isinstance(item, Tensor)]
    return any(isinstance(name, str) and name.endswith(".weight") for name in tensors)


def load_weights(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Copy the weights into the network. Raises: as check_weights(), before anything changes."""
    check_weights(network, weights, path)
    network.load_state_dict(weights)


def check_weights(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Raise ValueError naming what is missing, unknown, misshapen or impossible in weights for this network."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in weights]
    unknown = [name[:80] if isinstance(name, str) else type(name) for name in weights if name not in expected]
    if missing or unknown:
        remedy = f"if it is a MobileNetV2 under other names, {conversion(path)}" if unknown else "name another file"
        raise ValueError(
            f"{path}: its weights are not those of this network: missing {missing[:3]}, unknown {unknown[:3]} "
            f"({len(missing)} and {len(unknown)} in all); {remedy}"
        )
    for name, tensor in expected.items():
        found = weights[name]
        if not isinstance(found, Tensor):
            raise ValueError(f"{path}: {name} is a {type(found).__name__}, not a tensor; get or save the file again")
        kinds = FLOAT_TYPES if tensor.is_floating_point() else INT_TYPES
        if found.shape != tensor.shape or found.dtype not in kinds:
            raise ValueError(
                f"{path}: {name} is {found.dtype} {list(found.shape)}, the network has {tensor.dtype} "
                f"{list(tensor.shape)}; check model_width_mult and model_num_classes in config.py"
            )
        if not found.to(tensor.dtype).isfinite().all():
            raise ValueError(
                f"{path}: {name} has values that are not finite; the training run that made it diverged, take another"
            )
        if name.endswith(".running_var") and (found < 0).any():
            raise ValueError(f"{path}: {name} has values below 0, which no variance has; get or save the file again")


FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INT_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def load_pretrained_weights(network: nn.Module, config: ModuleType, class_names: list[str]) -> str:
    """Start from config.pretrained_model_weights_path; a classifier for another number of classes is left as it is.

    Its rows are put into the order of `class_names`, those of the data, where the file names the same classes. Returns
    the lines that tell what was done, and with which other classes or normalisation the weights were trained: they can
    learn new ones. Raises: ValueError if anything else does not fit, or if batch-norm was folded.
    """
    path = config.pretrained_model_weights_path
    checkpoint = read_checkpoint(path)
    weights = extract_weights(checkpoint, path)
    own = network.state_dict()
    wanted, features = own[CLASSIFIER[0]].shape
    shapes = [list(weights[name].shape) for name in CLASSIFIER if name in weights]
    found = shapes[-1][0] if shapes and shapes[-1] else wanted
    is_new_task = found != wanted and shapes == [[found, features], [found]]
    if is_new_task:
        weights |= {name: own[name] for name in CLASSIFIER}
    load_weights(network, weights, path)
    refuse_folded(network.state_dict(), config)
    fate = f"; the classifier starts fresh: {wanted} classes, not {found}" if is_new_task else ", classifier included"
    lines = [f"Load pretrained weights `{path}`{fate}."]
    trained_names = stored_class_names(checkpoint, wanted)
    if trained_names and not is_new_task and trained_names != class_names:
        lines.append(match_classes(network, trained_names, class_names))
    for name, trained, line in other_values(checkpoint, config, (*NORMALISATION, "apply_orientation"), path):
        lines.append(f"They were trained with {name} = {trained}; config.py line {line} has {getattr(config, name)}.")
    return "\n".join(lines)


def match_classes(network: nn.Module, trained_names: list[str], class_names: list[str]) -> str:
    """Give each class the row of the classifier that has its name. Returns a line, also if the names are others."""
    if sorted(trained_names) == sorted(class_names):
        rows = [trained_names.index(name) for name in class_names]
        own = network.state_dict()
        for name in CLASSIFIER:
            own[name].copy_(own[name][rows])
        return "They were trained with these classes in another order; the classifier's rows were matched by name."
    pairs = [pair for pair in zip(trained_names, class_names, strict=True) if pair[0] != pair[1]]
    trained, now = pairs[0]
    return (
        f"They were trained with other classes: the classifier's row of {now!r} was that of {trained[:80]!r}, "
        f"{len(pairs)} of {len(class_names)} differ."
    )


def stored_class_names(checkpoint: dict[str, Any], num_classes: int) -> list[str] | None:
    """The class names in a file of weights, if it has as many."""
    names = checkpoint.get("class_names")
    is_complete = isinstance(names, list) and len(names) == num_classes
    return names if is_complete and all(isinstance(name, str) for name in names) else None


def refuse_folded(weights: dict[str, Tensor], config: ModuleType) -> None:
    """Raise ValueError, with the command that helps, if batch-norm of the pretrained weights was folded."""
    folded, path = folded_layers(weights), config.pretrained_model_weights_path
    if folded:
        command = unfolding(path, config.train_image_dir, vars(config))
        raise ValueError(
            f"{path}: its batch-norm is folded into convolutions ({len(folded)} layers have variance 1 throughout); "
            f"training would not survive that; `{command}` makes a file to start from"
        )


def folded_layers(weights: dict[str, Tensor]) -> list[str]:
    """The batch-norm layers whose statistics nobody measured, though they do something.

    Tools that fold batch-norm into convolutions leave variance 1, or 1 - eps, in every channel, which no measurement
    gives. Layers of a network that was never trained have it too, with mean and shift 0.
    """
    names = [name.removesuffix(".running_var") for name in weights if name.endswith(".running_var")]
    return [
        name
        for name in names
        if ((weights[f"{name}.running_var"].double() - 1).abs() < LARGEST_EPS).all()
        and (weights[f"{name}.running_mean"].any() or weights[f"{name}.bias"].any())
    ]


LARGEST_EPS = 2e-3  # TensorFlow's is 1e-3


def unfolding(path: str | Path, image_dir: str, use: dict[str, Any]) -> str:
    """The command that makes folded weights fit for training; `use`: how, by the names of config.py."""
    target = beside_pretrained(path, "-unfolded")
    words = ["--images", image_dir, "--image-size", use["image_size"], "--width-mult", use["model_width_mult"]]
    words += ["--mean", *use["model_mean_parameters"], "--std", *use["model_std_parameters"]]
    words += ["--apply-orientation"] if use.get("apply_orientation") else []
    return f"python3 scripts/unfold_batch_norm.py {shlex.join(map(str, (path, target, *words)))}"


def other_values(
    checkpoint: dict[str, Any], config: ModuleType, names: Iterable[str], path: str | Path
) -> Iterator[tuple[str, Any, int | str]]:
    """What a file says it was trained with and config.py has otherwise: name, value of the file, line of config.py.

    Raises: ValueError if the value of the file cannot be.
    """
    record = checkpoint.get("config", checkpoint)  # a checkpoint of train.py, or a file of weights
    for name in names:
        wanted = to_plain(getattr(config, name))
        trained = record.get(name, wanted) if isinstance(record, dict) else wanted
        is_valid, expected = SHARED_RULES[name]
        if not is_valid(trained):
            raise ValueError(f"{path}: its {name} cannot be: expected {expected}; get or save the file again")
        if to_plain(trained) != wanted:
            yield name, trained, config_lines(config).get(name, "?")


NORMALISATION = ("model_mean_parameters", "model_std_parameters")


def load_trained_network(network: nn.Module, config: ModuleType) -> list[str] | None:
    """Load config.model_weights_path for scoring; returns the class names if the file has them.

    A line tells of another image size. Raises: ValueError if the file says it was trained with other values than
    config.py has.
    """
    path = config.model_weights_path
    checkpoint = read_checkpoint(path)
    for name, trained, line in other_values(
        checkpoint, config, ("model_width_mult", *NORMALISATION, "apply_orientation"), path
    ):
        raise ValueError(f"{path}: trained with {name} = {trained}; set config.py line {line} to it")
    load_weights(network, extract_weights(checkpoint, path), path)
    print_other_size(checkpoint, config, path)
    return stored_class_names(checkpoint, config.model_num_classes)


def print_other_size(checkpoint: dict[str, Any], config: ModuleType, path: str | Path) -> None:
    """Say so if a file was trained with another image_size: allowed, but seldom meant."""
    record = checkpoint.get("config", checkpoint)  # a checkpoint of train.py, or a file of weights
    trained = record.get("image_size") if isinstance(record, dict) else None
    is_valid, _ = SHARED_RULES["image_size"]
    if is_valid(trained) and trained != config.image_size:
        line = config_lines(config).get("image_size", "?")
        print(
            f"`{path}` was trained with image_size = {trained}; config.py line {line} has {config.image_size}: the "
            "answers differ from those at the size of the training, often for the worse."
        )


def read_labels(path: str) -> dict[str, str]:
    """The label file that config.class_label_file names: a JSON object. Raises: FileNotFoundError, ValueError."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such file; correct class_label_file in config.py, or set it to ""')
    try:
        labels = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict):
        raise ValueError(f'{path}: not a JSON object from "0" on, or from class folders, to labels')
    return {key: str(label) for key, label in labels.items()}


def imagenet_classes(num_classes: int) -> list[str] | None:
    """The names of ImageNet's class folders in the order of the logits of published weights, if these are as many."""
    path = Path(__file__).with_name("data") / "ImageNet_1K_synsets.txt"
    names = path.read_text(encoding="ascii").split() if path.is_file() else []
    return names if len(names) == num_classes else None


def to_plain(value: Any) -> Any:
    """Tuples as lists and numpy's floats as Python's: values compare by what they say, and weights_only reads them."""
    return json.loads(json.dumps(value))


def resume_training(state: TrainState, config: ModuleType) -> Path | None:
    """Continue as config.resume says; returns the checkpoint taken, None if the run starts afresh.

    Raises: ValueError if the checkpoint cannot be used, or if an earlier run would be overwritten.
    """
    start, checkpoint = from_main(partial(find_start, state, config))
    if start is not None:
        load_train_state(start, checkpoint, state, config)
    return start


def find_start(state: TrainState, config: ModuleType) -> tuple[Path | None, dict[str, Any]]:
    """The checkpoint to continue, read and checked; (None, {}) to start afresh. Raises: as resume_training."""
    folder, store = Path("samples", config.exp_name), restarts_store()
    found = str([(path.name, path.stat().st_mtime_ns) for path in (*list_checkpoints(folder), *interrupted_in(folder))])
    # What torchrun has started before goes on with what it has written since, if anything.
    has_grown = store is not None and store.check([FOUND]) and store.get(FOUND).decode() != found
    if has_grown or config.resume == "auto":
        start = find_newest(folder, state)
    elif config.resume:
        start = Path(config.resume), read_named(folder, state, config)
    else:
        start = None
    if start is None:
        refuse_to_overwrite(list_checkpoints(folder), config)
    if store is not None and not has_grown:
        store.set(FOUND, found)
    return start or (None, {})


FOUND = "checkpoints at the first start"


def find_newest(folder: Path, state: TrainState) -> tuple[Path, dict[str, Any]] | None:
    """The newest good checkpoint of a folder; None if it has none at all. Raises: ValueError if all are bad."""
    errors = []
    for path in newest_first(folder, errors):
        try:
            checkpoint = read_checkpoint(path)
            check_train_state(path, checkpoint, state)
        except (ValueError, OSError) as error:
            errors.append(error)
            print(f"Resume: {error}; taking the one before.")
            continue
        return path, checkpoint
    if errors:
        raise ValueError(f"{folder}: no checkpoint in it can be used ({errors[0]}); choose another exp_name")
    return None


def read_named(folder: Path, state: TrainState, config: ModuleType) -> dict[str, Any]:
    """The checkpoint that config.resume names. Raises: ValueError if it is unfit, or if later ones would be lost."""
    checkpoint = read_checkpoint(config.resume)
    check_train_state(config.resume, checkpoint, state)
    later = [path for path in list_checkpoints(folder) if epoch_number(path) > checkpoint["epoch"]]
    later += [path for path in interrupted_in(folder) if path.resolve() != Path(config.resume).resolve()]
    if later:
        raise ValueError(
            f"{later[-1]}: may be later than the {checkpoint['epoch']} epochs that resume goes back to; remove it, or "
            "choose another exp_name"
        )
    return checkpoint


def interrupted_in(folder: Path) -> list[Path]:
    """The interrupted.pth.tar of a folder, if there is one."""
    return [path for path in (folder / INTERRUPTED,) if path.exists()]


def newest_first(folder: Path, errors: list[Exception]) -> list[Path]:
    """The checkpoints of a folder; where interrupted.pth.tar belongs is known from its content."""
    places = {path: (epoch_number(path), 1) for path in list_checkpoints(folder)}
    for path in interrupted_in(folder):
        try:
            checkpoint = read_checkpoint(path)
            places[path] = int(checkpoint["epoch"]), 2 if checkpoint["position"] else 0
        except (ValueError, LookupError, TypeError, OverflowError, OSError) as error:
            errors.append(error)
            print(f"Resume: {error}; taking the one before.")
    return sorted(places, key=places.__getitem__, reverse=True)


def refuse_to_overwrite(earlier: list[Path], config: ModuleType) -> None:
    """Raise ValueError if there are checkpoints or weights of an earlier run."""
    last = Path("results", config.exp_name, "last.pth.tar")
    earlier = earlier + interrupted_in(Path("samples", config.exp_name))
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
INTERRUPTED = "interrupted.pth.tar"
TRAIN_STATE_TYPES = {
    **{"epoch": int, "position": int, "epoch_sums": list, "best_acc1": float, "ema_updates": int},
    **dict.fromkeys(("state_dict", "ema_state_dict", "optimizer", "scheduler", "scaler", "config"), dict),
    "class_names": list,
}


def check_train_state(path: str | Path, checkpoint: dict[str, Any], state: TrainState) -> None:
    """Raise ValueError if a checkpoint is not one of train.py, of another network, other classes, or diverged."""
    for key, kind in TRAIN_STATE_TYPES.items():
        if type(checkpoint.get(key)) is not kind:
            raise ValueError(f"{path}: cannot be resumed, it has no {key}; use samples/<exp_name>/epoch_N.pth.tar")
    names, own = checkpoint["class_names"], state.class_names
    if names != own and len(names) == len(own) and all(name in names for name in own):
        raise ValueError(
            f"{path}: trained on these classes in another order, {names[:3]}..., as earlier versions put folders named "
            "by numbers; finish it with the version that began it, or train anew under another exp_name"
        )
    if names != own:
        raise ValueError(f"{path}: trained on other classes, {names[:3]}...; check dataset_name")
    sums, limits = checkpoint["epoch_sums"], {"epoch": 2**31, "position": 2**31, "best_acc1": 100, "ema_updates": 2**62}
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

    The values of config.py hold; a line names each that has changed. Raises: ValueError if it stopped within an epoch
    and its batches would be others.
    """
    before, now = checkpoint["config"], config_record(config, state)
    for name, value in now.items():
        if name not in ("mode", "resume") and before.get(name, value) != value:
            print(f"Resume: {name} was {before[name]!r}, now {value!r}: the new value holds.")
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
    state.position, state.best_acc1 = checkpoint["position"], checkpoint["best_acc1"]
    if process_rank() == 0:  # the sums of all processes
        state.meter.sums[: len(checkpoint["epoch_sums"])] = torch.tensor(checkpoint["epoch_sums"], dtype=torch.float64)
    if checkpoint["scaler"] and state.scaler.is_enabled():
        state.scaler.load_state_dict(checkpoint["scaler"])
    saved = checkpoint["optimizer"]["state"]
    fill_momentum(state.optimizer, {index: values["momentum_buffer"] for index, values in saved.items()})
    set_schedule(state, math.ceil(state.position / config.gradient_accumulation_steps))


def fill_momentum(optimizer: torch.optim.SGD, saved: dict[int, Tensor | None]) -> None:
    """Give every parameter its momentum: that of its number in `saved`, or zero, after which the first step is as ever.

    torch's fused SGD leaves it unwritten if GradScaler skips the first step, and takes any strides for those of the
    parameter.
    """
    parameters = [(parameter, group) for group in optimizer.param_groups for parameter in group["params"]]
    for index, (parameter, group) in enumerate(parameters):
        if group["momentum"] > 0:
            momentum = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            if saved.get(index) is not None:
                momentum.copy_(saved[index])
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
