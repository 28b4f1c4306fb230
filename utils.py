# SPDX-License-Identifier: Apache-2.0
"""What the scripts share: errors in one line, the runtime, precision, compiling, evaluation."""

import contextlib
import ctypes
import os
import platform
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection, reduction, resource_sharer
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.atomic_files import NO_ROOM
from core.folding import choose_form, folded, has_fused_convolution
from core.metrics import show_scores
from core.plurals import counted
from core.processes import end_workers, let_workers_end, num_processes, process_rank
from core.seeds import torch_seed
from core.settings import config_lines
from core.spare_cores import watch_cores


@contextlib.contextmanager
def user_errors(interrupted: str = "Interrupted.", config_name: str = "config.py") -> Iterator[None]:
    """End the program with one line on stderr and status 2 (130 after Ctrl-C) instead of a traceback.

    `interrupted`: the line after Ctrl-C. `config_name`: what the line calls config.py.
    For the mistakes of users: ValueError, OSError, FloatingPointError, lack of GPU memory, and whatever config.py
    itself raises. Anything else is a defect of this program and keeps its traceback.
    """
    try:
        yield
    except SystemExit as error:  # what there was to say has been said
        leave_if_joined(error.code)
        raise
    except KeyboardInterrupt:
        let_workers_end()
        print(interrupted, file=sys.stderr)
        leave_if_joined(130)
        sys.exit(130)
    except Exception as error:
        let_workers_end()
        message = describe_error(error)
        if message is None:
            leave_if_joined(1, error)
            raise
        message = message.replace("config.py", config_name)
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
    if is_of_lost_worker(error, last.filename):
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


def is_of_lost_worker(error: Exception, file: str) -> bool:
    """Whether a loader worker is gone. `file`: where the error was raised."""
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker")
    # What it had sent cannot be fetched from it any more: this may come before torch notices that it is gone.
    return isinstance(error, (ConnectionError, FileNotFoundError, EOFError)) and file in FETCHING


FETCHING = {str(module.__file__) for module in (connection, reduction, resource_sharer)}


def add_place(message: str) -> str:
    """A message that begins with the path of what is not there; a relative path gets the place it stands for."""
    path = message.partition(": ")[0]
    if os.path.isabs(path) or os.path.exists(path):
        return message
    return f"{message} (looked for at {os.path.abspath(path)})"


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
        warn_of_slow_precision(device, precision)
    watch_cores(device.type == "cpu" and not deterministic)
    cv2.setNumThreads(0)  # the workers are the threads
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # load_image() reports unreadable files itself
    return device


def warn_of_slow_precision(device: torch.device, precision: str) -> None:
    """Print a line where bfloat16 is slower than float32 by far: on x86 processors for which oneDNN has none.

    Those without AVX512. torch's own routines take 12 times as long there for a training step, for scoring 24 times.
    """
    is_slow = platform.machine() == "x86_64" and not has_fused_convolution(device, torch.bfloat16)
    if precision == "bfloat16" and is_slow and os.environ.get("RANK", "0") == "0":
        print(
            'precision = "bfloat16" takes ten times as long as "float32", or more, on this processor without AVX512.',
            flush=True,
        )


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
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # which takes time; nothing here reads such memory
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


def check_workers(num_workers: int, batch_size: int, image_size: int, num_loaders: int, target_bytes: int = 8) -> None:
    """Raise ValueError if loader workers could not pass their batches on: they would die, or wait, without a word.

    `target_bytes`: what an image has beside its pixels; of a classifier its class, int64.
    """
    if not num_workers:
        return
    folder = tempfile.gettempdir()  # they make sockets in it, with names like pymp-abcdefgh/listener-abcdefgh
    if sys.platform == "linux" and len(os.fsencode(folder)) > LONGEST_SOCKET_NAME - 32:
        raise ValueError(
            f"{folder}: too long a name for the folder of temporary files; set TMPDIR to one of at most "
            f"{LONGEST_SOCKET_NAME - 32} characters, or num_workers = 0 in config.py"
        )
    memory = Path("/dev/shm")
    if not memory.is_dir():
        return
    # three of each worker: core/loader_workers.BATCHES_OF_WORKER
    batches = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) * num_loaders * 3 * num_workers
    needed = batches * batch_size * (3 * image_size**2 + target_bytes)
    free = shutil.disk_usage(memory).free
    if needed > free:
        raise ValueError(
            f"{memory}: {free / 2**20:.1f} MiB free, {counted(num_workers, 'worker needs', 'workers need')} "
            f"{needed / 2**20:.1f} MiB; lower num_workers or batch_size in config.py, or give the container "
            "more (docker run --shm-size)"
        )


LONGEST_SOCKET_NAME = 107  # unix(7)


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Make what is random in the main process (dropout, mixup, cutmix) a function of (seed, epoch, step, rank)."""
    torch.manual_seed(torch_seed(seed, epoch, step, process_rank()))


def loader_options(config: ModuleType, device: torch.device) -> dict[str, Any]:
    """What dataset.create_batches() takes of config.py and of the processes of this run."""
    return {
        "batch_size": config.batch_size,
        "num_workers": config.num_workers,
        "mean": config.model_mean_parameters,
        "std": config.model_std_parameters,
        "device": device,
        "rank": process_rank(),
        "num_processes": num_processes(),
    }


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
    # On a CPU with AVX512-BF16 a training step in bfloat16 takes 0.7 of the time in float32 at 224 pixels; but scoring
    # would give other answers.
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The autocast context of a precision; float32 switches it off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def compile_network(network: nn.Module, device: torch.device) -> None:
    """torch.compile a network in place, so that its weights keep their names; where that fails, say so in one line.

    Compiling a small function first shows what is missing before anything depends on it. What is compiled is so for a
    number of threads, which therefore stays.
    """
    watch_cores(False)
    try:
        torch.compile(lambda values: values.cos() + 1)(torch.zeros(64, device=device))
        network.compile(backend=compile_or_run)
    except Exception as error:  # of any library of the compiler
        announce_no_compiling(error)


def fastest_form(
    network: nn.Module, config: ModuleType, device: torch.device, num_images: int, batch_size: int = 1
) -> nn.Module:
    """The network on the device, in the form that scores `num_images`, so many at once, soonest."""
    network, dtype = network.to(device).to(memory_format=torch.channels_last), choose_dtype(config.precision, device)
    if not config.compile_model:
        return choose_form(network, config.image_size, dtype, num_images, batch_size)
    network = folded(network, dtype)
    compile_network(network, device)
    return network


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


class Batches(Protocol):
    """Normalised images [N, 3, S, S] and their targets, like classes int64 [N]."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...


class Scores(Protocol):
    """What is measured of the logits for each batch, like core.metrics.ClassScores."""

    def add(self, logits: Tensor, targets: Tensor) -> None: ...

    def so_far(self, remedy: str) -> dict[str, float]: ...

    def of_all(self, remedy: str) -> dict[str, float]: ...


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: Batches,
    scores: Scores,
    *,
    device: torch.device,
    dtype: torch.dtype,
    print_frequency: int,
    on_logits: Callable[[Tensor], None] = lambda logits: None,
    should_stop: Callable[[], bool] = lambda: False,
    remedy: str = "lower model_lr in config.py",
) -> dict[str, float]:
    """Score every image once, each process its batches: what `scores` measures, of all.

    Leaves the network in eval mode.

    Prints a line every `print_frequency` batches. `on_logits` receives what the network gives for each batch,
    in float32: of a classifier logits [N, C].
    `should_stop`: asked after each batch; if it says so, the result is that of the batches so far.
    Raises: FloatingPointError, which ends with `remedy`, if the loss is not finite.
    """
    network.eval()
    for index, (images, targets) in enumerate(batches, start=1):
        with autocast(device, dtype):
            logits = network(images)
        logits = logits.float()
        scores.add(logits, targets)
        on_logits(logits)
        if should_stop():
            break
        if index % print_frequency == 0:
            averages = scores.so_far(remedy)
            line = f"Test: [{index:>{len(str(len(batches)))}}/{len(batches)}] Loss {averages['loss']:.4f} "
            print((line + show_scores(averages, logits.shape[1], 2)).rstrip(), flush=True)
    return scores.of_all(remedy)


def remedy_for_weights(config: ModuleType, dtype: torch.dtype) -> str:
    """What to do about trained weights whose logits are infinite or NaN."""
    if dtype == torch.float16:
        line = config_lines(config).get("precision", "?")
        return f'float16 has no numbers above 65,504: set precision = "float32" (config.py line {line})'
    line = config_lines(config).get("model_weights_path", "?")
    return f"the run that made these weights diverged: set model_weights_path (config.py line {line}) to others"
