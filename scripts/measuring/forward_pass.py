# SPDX-License-Identifier: Apache-2.0
"""The parts model, train and latency of benchmark.py: the network, on random images that are there already."""

import argparse
import contextlib
import copy
import importlib.util
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn

import benchmark_data
import model as architecture
import train as training
from benchmark_timing import Comparison, alternate, in_own_process, repeated
from dataset import CPUPrefetcher
from small_training import copy_program, edit_config
from utils import autocast, compile_network

IMAGE_SIZE, NUM_CLASSES = 224, 1000
CPU_BATCH = 32
GPU_BATCHES = (256, 512, 1024, 2048)
CPU, GPU = torch.device("cpu"), torch.device("cuda")
BASELINE = "torchvision, eager float32 NCHW"
GPU_BASELINE = "torchvision, eager float16 autocast NCHW"
BATCHES, CALLS = 3, 20  # forward passes in a run, of a batch and of one image
STEPS, FED_STEPS = {"cpu": 5, "cuda": 20}, {"cpu": 10, "cuda": 40}  # training steps in a run
FORWARDS = 20  # forward passes in a run on a GPU

Action = Callable[[], object]


def model(options: argparse.Namespace) -> Iterator[Comparison]:
    """The forward pass of a trained network."""
    yield compare_forward(options, CPU_BATCH, "images/s", BATCHES)
    if torch.cuda.is_available():
        for batch in GPU_BATCHES:
            yield compare_gpu_forward(options, batch)


def train(options: argparse.Namespace) -> Iterator[Comparison]:
    """Training steps: ours with all that train.py does in a step, torchvision's with all that its script does."""
    for device, batch in [(CPU, CPU_BATCH), *((GPU, batch) for batch in GPU_BATCHES if torch.cuda.is_available())]:
        yield compare_steps(options, device, batch)
        yield compare_fed_steps(options, device, batch)


def latency(options: argparse.Namespace) -> Iterator[Comparison]:
    """One image in a running process, and inference.py as a process."""
    yield compare_forward(options, 1, "ms", CALLS)
    yield compare_start_up(options)


# ---------------------------------------------------------------------------------------------------------------------
# Forward
# ---------------------------------------------------------------------------------------------------------------------


def compare_forward(options: argparse.Namespace, batch: int, unit: str, calls: int) -> Comparison:
    """Ours, torchvision's, timm's and the runtimes that are installed, on the CPU with the same weights and images."""
    torch._dynamo.reset()  # of two batch sizes it would compile for both, and not as the scripts do
    network, images = trained_network(), random_images(batch)
    missing: list[str] = []
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


def torchvision_forward(batch: int, calls: int) -> Action:
    return repeated(forward(trained_network(), random_images(batch)), calls)


def timm_forward(batch: int, calls: int) -> Action:
    """With the same weights, which come in the same order there."""
    network = timm.create_model("mobilenetv2_100")
    weights = trained_network().state_dict().values()
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))
    return repeated(forward(network.eval(), random_images(batch)), calls)


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


def random_images(batch: int, device: torch.device = CPU) -> Tensor:
    """float32 [N, 3, H, W] as normalised images are: mean 0, deviation 1."""
    return torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(batch)).to(device)


def our_network(network: nn.Module) -> nn.Module:
    """Ours with the same weights."""
    ours = architecture.mobilenet_v2(NUM_CLASSES)
    ours.load_state_dict(network.state_dict())
    return ours.to(next(network.parameters()).device, memory_format=torch.channels_last)


def forward(network: Callable[[Tensor], Tensor], images: Tensor, dtype: torch.dtype = torch.float32) -> Action:
    """What scores a batch: images [N, 3, H, W] -> logits [N, C]."""

    @torch.inference_mode()
    def run() -> Tensor:
        with autocast(images.device, dtype):
            return network(images)

    return run


def our_forwards(network: nn.Module, images: Tensor, missing: list[str]) -> Iterator[tuple[str, Action]]:
    """As test.py and inference.py run it, in both precisions, called directly and compiled."""
    ours = our_network(network)
    images = images.contiguous(memory_format=torch.channels_last)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        yield name, forward(architecture.folded(ours, dtype), images, dtype)
        compiled = architecture.folded(ours, dtype)
        if compiles(compiled, images.device, f"{name} + compile", missing):
            yield f"{name} + compile", forward(compiled, images, dtype)
        if len(images) == 1:  # as inference.py runs it for many
            yield f"{name}, one graph", forward(architecture.as_one_graph(ours, IMAGE_SIZE, dtype), images, dtype)


def compiles(network: nn.Module, device: torch.device, name: str, missing: list[str]) -> bool:
    """compile_network(), its line kept for the table."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        compile_network(network, device)
    if output.getvalue():
        missing.append(f"{name}: {output.getvalue().strip()}")
    return not output.getvalue()


def runtime_forwards(
    network: nn.Module, images: Tensor, path: Path, missing: list[str]
) -> Iterator[tuple[str, Action]]:
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
        yield "OpenVINO float32", openvino_forward(path, array, "f32")
        yield "OpenVINO bfloat16", openvino_forward(path, array, "bf16")


def onnxruntime_forward(path: Path, images: np.ndarray) -> Action:
    """With as many threads as torch has."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    # a spinning thread pool would slow down the candidate after it
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    return lambda: torch.from_numpy(session.run(None, {name: images})[0])


def openvino_forward(path: Path, images: np.ndarray, precision: str) -> Action:
    """With as many threads as torch has."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda: torch.from_numpy(compiled(images)[0])


def check_same_answers(candidates: dict[str, Action]) -> None:
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
    ours = [name for name in ours if name in notes]
    return Comparison(title, ours, GPU_BASELINE, times, batch * FORWARDS, "images/s", notes, missing)


def peak_memories(candidates: dict[str, Action], missing: list[str]) -> dict[str, str]:
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


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


def compare_steps(options: argparse.Namespace, device: torch.device, batch: int) -> Comparison:
    """Ours in the precisions of the device, called directly and compiled, against torchvision's."""
    torch._dynamo.reset()
    steps, missing = STEPS[device.type], []
    if device.type == "cpu":
        others = {BASELINE: in_own_process(settled_torchvision_steps, batch, steps)}
    else:
        others = {
            GPU_BASELINE: torchvision_steps(GPU, batch, steps, torch.float16),
            "torchvision, eager float16 autocast NHWC": torchvision_steps(
                GPU, batch, steps, torch.float16, torch.channels_last
            ),
        }
    ours = dict(our_training(device, batch, steps, missing))
    candidates, notes = others | ours, {}
    if device.type == "cuda":
        notes = peak_memories(candidates, missing)
        candidates = {name: action for name, action in candidates.items() if name in notes}
    times = alternate(candidates, options.rounds)
    title = f"training step on the {kind(device)}, batch {batch}, {IMAGE_SIZE} px"
    ours = [name for name in ours if name in candidates]
    return Comparison(title, ours, next(iter(others)), times, batch * steps, "images/s", notes, missing)


def random_batch(device: torch.device, batch: int) -> tuple[Tensor, Tensor]:
    """random_images() and their classes, int64 [N]."""
    targets = torch.randint(NUM_CLASSES, (batch,), generator=torch.Generator().manual_seed(0))
    return random_images(batch, device), targets.to(device)


def torchvision_steps(
    device: torch.device,
    batch: int,
    steps: int,
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Action:
    """Steps as torchvision's reference script (references/classification/train.py) does them."""
    images, targets = random_batch(device, batch)
    images = images.contiguous(memory_format=memory_format)
    network = torchvision.models.mobilenet_v2().to(device, memory_format=memory_format)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.045, momentum=0.9, weight_decay=4e-5)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def run() -> None:
        network.train()
        for _ in range(steps):
            with autocast(device, dtype):
                logits = network(images)
                loss = criterion(logits, targets)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            best = logits.topk(5).indices == targets[:, None]  # its metrics, read in every step
            loss.item(), best[:, :1].sum().item(), best.sum().item()

    return run


def settled_torchvision_steps(batch: int, steps: int) -> Action:
    """On the CPU; after so many steps that they are as fast as in a long run: at first malloc pages in every block."""
    torchvision_steps(CPU, batch, 40, torch.float32)()
    return torchvision_steps(CPU, batch, steps, torch.float32)


def our_training(device: torch.device, batch: int, steps: int, missing: list[str]) -> Iterator[tuple[str, Action]]:
    """Steps of train.py with all that it does in them: schedule, average, checks and sums."""
    batches = RandomBatches(*random_batch(device, batch), steps)
    for precision in ("float32", "bfloat16"):
        for suffix in ("", " + compile"):
            name = f"{precision}{suffix}"
            config = training_config(precision, device, batch)
            state = training.create_train_state(config, device, batches)
            if not suffix or compiles(state.network, device, name, missing):
                yield name, partial(our_steps, config, state, batches)


def compare_fed_steps(options: argparse.Namespace, device: torch.device, batch: int) -> Comparison:
    """Steps of train.py from files, beside steps on random data: the ratio is the share that the loader sustains."""
    steps = FED_STEPS[device.type]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = benchmark_data.photos(options, 0, folder)
        originals = benchmark_data.link_images(source, folder / "originals", steps * batch)
        small = benchmark_data.store_small(source, folder / "short_side_256")
        copy_of_them = benchmark_data.link_images(small, folder / "copy", steps * batch)
        loading = options.workers, batch, device
        fed = {
            "random data": RandomBatches(*random_batch(device, batch), steps),
            "fed from the originals": benchmark_data.our_batches(originals, *loading),
            "fed from a copy made with --short-side 256": benchmark_data.our_batches(copy_of_them, *loading),
        }
        config = training_config("auto", device, batch)
        candidates = {
            name: partial(our_steps, config, training.create_train_state(config, device, batches), batches)
            for name, batches in fed.items()
        }
        times = alternate(candidates, options.rounds)
    title = f"training step on the {kind(device)} with {options.workers} loader workers, batch {batch}, {IMAGE_SIZE} px"
    return Comparison(title, list(fed), "random data", times, steps * batch)


def kind(device: torch.device) -> str:
    return {"cpu": "CPU", "cuda": "GPU"}[device.type]


def our_steps(config: SimpleNamespace, state: training.TrainState, batches: "RandomBatches | CPUPrefetcher") -> None:
    """One epoch of train.py over the batches."""
    state.start_epoch(1)
    with contextlib.redirect_stdout(io.StringIO()):
        training.train_one_epoch(config, state, batches, training.SilentWriter(), lambda: None)


class RandomBatches:
    """Stands for the loader: one batch, again and again."""

    def __init__(self, images: Tensor, targets: Tensor, steps: int) -> None:
        self.batch = images.contiguous(memory_format=torch.channels_last), targets
        self.steps = steps
        self.dataset = SimpleNamespace(targets=range(10_000), classes=[])

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([self.batch] * self.steps)

    def set_epoch(self, epoch: int, position: int) -> None:
        """All epochs are alike."""


def training_config(precision: str, device: torch.device, batch: int) -> SimpleNamespace:
    """What train.py reads of config.py in a step, with torchvision's recipe."""
    return SimpleNamespace(
        **{"seed": 0, "device": device.type, "precision": precision, "batch_size": batch},
        **{"model_arch_name": "mobilenet_v2", "model_num_classes": NUM_CLASSES, "model_width_mult": 1.0},
        **{"model_dropout": 0.2, "sync_batch_norm": False, "gradient_accumulation_steps": 1, "epochs": 300},
        **{"model_lr": 0.045, "lr_warmup_epochs": 5, "model_momentum": 0.9, "model_weight_decay": 4e-5},
        **{"model_ema_decay": 0.9999, "loss_label_smoothing": 0.0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0},
        **{"train_print_frequency": 100},
    )


# ---------------------------------------------------------------------------------------------------------------------
# Start-up
# ---------------------------------------------------------------------------------------------------------------------


def compare_start_up(options: argparse.Namespace) -> Comparison:
    """inference.py on one picture as a process, against importing its two libraries and reading the weights."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        create_inference_project(root)
        weights = "weights.pth"
        baseline = f"import torch, cv2; torch.load('{weights}', weights_only=True)"
        candidates = {
            "import torch, cv2; read the weights": partial(run_python, root, "-c", baseline),
            "inference.py": partial(run_python, root, "inference.py", "image.jpg"),
        }
        times = alternate(candidates, options.rounds)
    names = list(candidates)
    return Comparison("start-up: inference.py on one picture, the whole process", names[1:], names[0], times, 1, "s")


def create_inference_project(root: Path) -> None:
    """The program with the weights of ImageNet's size and a picture."""
    copy_program(root)
    values = {"image_size": IMAGE_SIZE, "model_num_classes": NUM_CLASSES, "device": "cpu"}
    edit_config(root / "config.py", values | {"model_weights_path": "weights.pth"})
    classes = [str(index) for index in range(NUM_CLASSES)]
    torch.save({"state_dict": trained_network().state_dict(), "class_names": classes}, root / "weights.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    cv2.imwrite(str(root / "image.jpg"), pixels)


def run_python(root: Path, *arguments: str) -> None:
    """A new process in the folder. Raises: subprocess.CalledProcessError."""
    subprocess.run([sys.executable, *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)
