# SPDX-License-Identifier: Apache-2.0
"""One process, or several that torchrun started: only this file asks which. Rank 0 prints and writes."""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn


def end_workers() -> None:
    """End what an error left of the loader workers: they ignore the signal by which Python would end them."""
    workers = multiprocessing.active_children()
    if workers:
        let_workers_end()
    for worker in workers:
        worker.kill()
        worker.join()


def let_workers_end() -> None:
    """From here on the end of a loader worker raises nothing, wherever the program is: torch's handler would."""
    if threading.current_thread() is threading.main_thread():  # elsewhere Python has no signals
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


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


def local_rank() -> tuple[int, int]:
    """The number of this process among those on its machine, and how many these are."""
    if not dist.is_initialized() or not is_by_torchrun():
        return 0, 1
    return int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])


def machine_number() -> int:
    """The number of this machine among those that train together."""
    return int(os.environ["GROUP_RANK"]) if is_by_torchrun() else process_rank()


def is_by_torchrun() -> bool:
    """Whether it is known which processes share a machine; other launchers do not say, and each counts as one."""
    return {"LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"} <= os.environ.keys()


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    sum_over_processes(torch.zeros(1))


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
    result: Result = answer[1]
    return result


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


def gather_batches(batches: list[Any]) -> list[Any]:
    """What each process has of its batches, in process 0 in the order of EpochSampler; in the others an empty list."""
    turns = zip_longest(*gather_to_main(batches))  # process r has the batches r, r + P, ...
    return [batch for turn in turns for batch in turn if batch is not None]


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

    running_mean: Tensor  # with the statistics and the momentum that all batch-norms of the network have
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, images: Tensor) -> Tensor:
        """float [N, C, H, W] -> the same shape."""
        if not self.training:
            return super().forward(images)
        axes, count = (0, 2, 3), images.numel() // images.shape[1] * num_processes()
        precise = images.to(self.running_mean.dtype)
        mean: Tensor = SumOverProcesses.apply(precise.sum(axes)) / count
        centred = precise - mean[:, None, None]
        variance: Tensor = SumOverProcesses.apply(centred.square().sum(axes)) / count
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
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm  # which adds no state of its own
    return network


def parallelize(network: nn.Module, device: torch.device) -> nn.Module:
    """What training calls: the network, or DistributedDataParallel around it, which averages the gradients."""
    if num_processes() == 1:
        return network
    return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def unwrapped(network: nn.Module) -> nn.Module:
    """What parallelize() was given."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def without_averaging(network: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Within it, gradients of several batches add up before the processes average them."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        return network.no_sync()
    return contextlib.nullcontext()
