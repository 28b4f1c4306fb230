# SPDX-License-Identifier: Apache-2.0
"""What the parts of benchmark.py that run a network share: its weights, random images, devices, baselines."""

import contextlib
import io
from collections.abc import Callable, Mapping

import torch
import torchvision
from torch import Tensor, nn

from core.folding import has_native_bfloat16
from measuring.images import IMAGE_SIZE
from utils import compile_network

NUM_CLASSES = 1000
CPU_BATCH = 32
GPU_BATCHES = (256, 512, 1024, 2048)
CPU, GPU = torch.device("cpu"), torch.device("cuda")
BASELINE = "torchvision, eager float32 NCHW"
GPU_BASELINE = "torchvision, eager float16 autocast NCHW"

Action = Callable[[], object]


def trained_network() -> nn.Module:
    """torchvision's network in eval mode, its batch-norm statistics those of random images."""
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    with torch.no_grad():
        network(random_images(8))
    return network.eval().requires_grad_(False)


def precisions(device: torch.device = CPU) -> list[str]:
    """Those of config.py that are measured: on a processor without AVX512-BF16 float32 alone."""
    return ["float32", "bfloat16"] if device.type == "cuda" or has_native_bfloat16() else ["float32"]


def left_out(device: torch.device = CPU) -> list[str]:
    """The line about what precisions() lacks, if it lacks anything."""
    return [] if "bfloat16" in precisions(device) else ["bfloat16: left out, as this processor has no AVX512-BF16"]


def random_images(batch: int, device: torch.device = CPU) -> Tensor:
    """float32 [N, 3, H, W] as normalised images are: mean 0, deviation 1."""
    return torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(batch)).to(device)


def compiles(network: nn.Module, device: torch.device, name: str, missing: list[str]) -> bool:
    """compile_network(), its line kept for the table."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        compile_network(network, device)
    if output.getvalue():
        missing.append(f"{name}: {output.getvalue().strip()}")
    return not output.getvalue()


def peak_memories(candidates: Mapping[str, Action], missing: list[str]) -> dict[str, str]:
    """peak_memory() of each; those that need more than there is are named in `missing` instead."""
    notes = {}
    for name, action in candidates.items():
        try:
            notes[name] = peak_memory(action)
        except torch.cuda.OutOfMemoryError:
            missing.append(f"{name}: needs more memory than the GPU has")
    return notes


def peak_memory(action: Action) -> str:
    """What a run adds to the GPU's memory at its peak."""
    action()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    action()
    torch.cuda.synchronize()
    return f"peak {(torch.cuda.max_memory_allocated() - before) / 2**30:.2f} GiB"


def kind(device: torch.device) -> str:
    return {"cpu": "CPU", "cuda": "GPU"}[device.type]
