# SPDX-License-Identifier: Apache-2.0
"""The parts model and latency of benchmark.py: the forward pass, on random images that are there already."""

import argparse
import contextlib
import copy
import importlib.util
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from core.folding import OneGraph, choose_form, folded
from measuring.images import IMAGE_SIZE
from measuring.networks import (
    BASELINE,
    CPU_BATCH,
    GPU,
    GPU_BASELINE,
    GPU_BATCHES,
    NUM_CLASSES,
    compiles,
    left_out,
    peak_memories,
    precisions,
    random_images,
    trained_network,
)
from measuring.start_up import compare_first_step, compare_start_up
from measuring.timing import Comparison, alternate, in_own_process, repeated
from model import mobilenet_v2
from utils import autocast

Forward = Callable[[], Tensor]  # a run that gives its logits

BATCHES, CALLS = 3, 20  # forward passes in a run, of a batch and of one image
MANY = 50_000  # images that test.py and inference.py are to expect
FORWARDS = 20  # forward passes in a run on a GPU


def model(options: argparse.Namespace) -> Iterator[Comparison]:
    """The forward pass of a trained network."""
    yield compare_forward(options, CPU_BATCH, "images/s", BATCHES)
    if torch.cuda.is_available():
        for batch in GPU_BATCHES:
            yield compare_gpu_forward(options, batch)


def latency(options: argparse.Namespace) -> Iterator[Comparison]:
    """One image in a running process, inference.py as a process, and train.py to its first step."""
    yield compare_forward(options, 1, "ms", CALLS)
    yield compare_start_up(options)
    yield compare_first_step(options)


def compare_forward(options: argparse.Namespace, batch: int, unit: str, calls: int) -> Comparison:
    """Ours, torchvision's, timm's and the runtimes that are installed, on the CPU with the same weights and images."""
    torch._dynamo.reset()  # of two batch sizes it would compile for both, and not as the scripts do
    network, images = trained_network(), random_images(batch)
    missing = left_out()
    ours = dict(our_forwards(network, images, missing))
    candidates = {
        BASELINE: in_own_process(torchvision_forward, batch, calls),
        "timm, eager float32 NCHW": in_own_process(timm_forward, batch, calls),
    }
    here = {"torchvision with our memory setting": forward(network, images)} | ours
    with tempfile.TemporaryDirectory() as folder:
        here |= dict(runtime_forwards(network, images, Path(folder, "network.onnx"), missing))
    candidates |= {name: repeated(action, calls) for name, action in here.items()}
    check_same_answers(candidates)
    times = alternate(candidates, options.rounds)
    title = f"forward on the CPU, batch {batch}, {IMAGE_SIZE} px"
    return Comparison(title, list(ours), BASELINE, times, batch * calls, unit, missing=missing)


def torchvision_forward(batch: int, calls: int) -> Forward:
    return repeated(forward(trained_network(), random_images(batch)), calls)


def timm_forward(batch: int, calls: int) -> Forward:
    """With the same weights, which come in the same order there."""
    network = timm.create_model("mobilenetv2_100")
    weights = trained_network().state_dict().values()
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))
    return repeated(forward(network.eval(), random_images(batch)), calls)


def our_network(network: nn.Module) -> nn.Module:
    """Ours with the same weights."""
    ours = mobilenet_v2(NUM_CLASSES)
    ours.load_state_dict(network.state_dict())
    return ours.to(next(network.parameters()).device).to(memory_format=torch.channels_last)


def forward(network: Callable[[Tensor], Tensor], images: Tensor, dtype: torch.dtype = torch.float32) -> Forward:
    """What scores a batch: images [N, 3, H, W] -> logits [N, C]."""

    @torch.inference_mode()
    def run() -> Tensor:
        with autocast(images.device, dtype):
            return network(images)

    return run


def our_forwards(network: nn.Module, images: Tensor, missing: list[str]) -> Iterator[tuple[str, Forward]]:
    """As test.py and inference.py run it, in both precisions: for few images, compiled, and for many."""
    ours = our_network(network)
    images = images.contiguous(memory_format=torch.channels_last)
    for name in precisions(images.device):
        dtype = getattr(torch, name)
        yield name, forward(folded(ours, dtype), images, dtype)
        compiled = folded(ours, dtype)
        if compiles(compiled, images.device, f"{name} + compile", missing):
            yield f"{name} + compile", forward(compiled, images, dtype)
        graph = choose_form(ours, IMAGE_SIZE, dtype, MANY, len(images))
        if isinstance(graph, OneGraph):
            yield f"{name}, one graph", forward(graph, images, dtype)


def runtime_forwards(
    network: nn.Module, images: Tensor, path: Path, missing: list[str]
) -> Iterator[tuple[str, Forward]]:
    """ONNX Runtime and OpenVINO, as far as they are installed, on the exported network."""
    packages = ("onnx", "onnxscript", "onnxruntime", "openvino")
    absent = {name for name in packages if importlib.util.find_spec(name) is None}
    missing += [f"{name} is not installed; make bench installs it" for name in sorted(absent)]
    if absent & {"onnx", "onnxscript"}:
        return
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(network, (images,), path, dynamo=True, verbose=False)
    array = images.numpy()
    if "onnxruntime" not in absent:
        yield "ONNX Runtime float32", onnxruntime_forward(path, array)
    if "openvino" not in absent:
        for name in precisions():
            yield f"OpenVINO {name}", openvino_forward(path, array, {"float32": "f32", "bfloat16": "bf16"}[name])


def onnxruntime_forward(path: Path, images: np.ndarray) -> Forward:
    """With as many threads as torch has."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    # a spinning thread pool would slow down the candidate after it
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    return lambda: torch.from_numpy(session.run(None, {name: images})[0])


def openvino_forward(path: Path, images: np.ndarray, precision: str) -> Forward:
    """With as many threads as torch has."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda: torch.from_numpy(compiled(images)[0])


def check_same_answers(candidates: Mapping[str, Forward]) -> None:
    """Raise ValueError if a candidate does not compute the network of the baseline, the first one."""
    expected: Tensor | None = None
    for name, action in candidates.items():
        logits = action().float().cpu()
        expected = logits if expected is None else expected
        # 16 bits differ by a tenth in a network of random weights, other weights by more than 1
        if (logits - expected).norm() > 0.25 * expected.norm():
            raise ValueError(f"{name}: other logits than the baseline's; leave this candidate out")


def compare_gpu_forward(options: argparse.Namespace, batch: int) -> Comparison:
    """Ours against torchvision's with autocast, NCHW and NHWC."""
    torch._dynamo.reset()
    network, images = trained_network().to(GPU), random_images(batch, GPU)
    missing: list[str] = []
    nhwc = copy.deepcopy(network).to(memory_format=torch.channels_last)
    candidates = {
        GPU_BASELINE: forward(network, images, torch.float16),
        "torchvision, eager float16 autocast NHWC": forward(
            nhwc, images.contiguous(memory_format=torch.channels_last), torch.float16
        ),
    }
    ours = dict(our_forwards(network, images, missing))
    candidates |= ours
    notes = peak_memories(candidates, missing)
    candidates = {name: action for name, action in candidates.items() if name in notes}
    check_same_answers(candidates)
    times = alternate({name: repeated(action, FORWARDS) for name, action in candidates.items()}, options.rounds)
    title = f"forward on the GPU, batch {batch}, {IMAGE_SIZE} px"
    kept = [name for name in ours if name in notes]
    return Comparison(title, kept, GPU_BASELINE, times, batch * FORWARDS, "images/s", notes, missing)
