# SPDX-License-Identifier: Apache-2.0
"""What only a GPU can show: its arithmetic, its copies beside the steps, and that no step waits for it."""

import re
import runpy
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkpoint_files import assert_equal, read
from conftest import ROOT, Project
from interrupted_runs import SAMPLES, prepare, run_and_signal
from random_networks import network_with_statistics
from task_projects import SMALL, create_task_project, run
from test_train import RepeatedBatch
from torch import Tensor

import train
import utils
from core import reports
from core.folding import folded
from dataset import ImageDataset, create_batches
from imgproc import eval_transform
from shared.small_training import write_images

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture
def flags() -> Iterator[None]:
    """Puts back what setup_runtime() changes."""
    yield
    utils.choose_float32("float32")
    utils.choose_algorithms(False)
    torch.backends.cudnn.benchmark = False


def eval_32(image: object) -> object:
    return eval_transform(image, 32)


def test_copies_beside_steps_give_every_batch_as_it_is(tmp_path: Path) -> None:
    """While the GPU is busy, so that the workers are far ahead of it: with memory that is not pinned most are wrong."""
    write_images(tmp_path, 100)
    dataset = ImageDataset(tmp_path, eval_32, num_classes=3, seed=None)
    options = {"batch_size": 4, "mean": MEAN, "std": STD}
    on_cpu = create_batches(dataset, num_workers=0, device=torch.device("cpu"), **options)
    on_gpu = create_batches(dataset, num_workers=2, device=GPU, **options)
    expected = [(images.clone(), targets) for images, targets in on_cpu]
    assert len(expected) == 75
    load = torch.randn(2048, 2048, device=GPU)
    for _ in range(4):
        kept: list[tuple[Tensor, Tensor]] = []
        for images, targets in on_gpu:
            for _ in range(10):
                load = load @ load
                load /= load.norm()
            kept.append((images.clone(), targets.clone()))
        for (images, targets), (right_images, right_targets) in zip(kept, expected, strict=True):
            torch.testing.assert_close(images.cpu(), right_images, rtol=0, atol=1e-6)
            assert torch.equal(targets.cpu(), right_targets)


def largest_difference(precision: str) -> float:
    """Between the logits of the folded network on the GPU and of the network on the CPU, both in float32."""
    device = utils.setup_runtime(0, "cuda", precision)
    network = network_with_statistics().eval()
    images = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(images)
        logits = folded(network.to(device), utils.choose_dtype(precision, device))(images.to(device))
    return (logits.cpu() - expected).abs().max().item()


def test_float32_gives_the_logits_of_the_cpu(flags: None) -> None:
    assert largest_difference("float32") < 1e-4


@pytest.mark.skipif(torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="has no TF32")
def test_tf32_rounds_more_and_only_where_asked_for(flags: None) -> None:
    rounded, exact = largest_difference("tf32"), largest_difference("float32")
    print(f"largest difference: tf32 {rounded:.1e}, float32 {exact:.1e}")
    assert rounded > 10 * exact


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16", "auto"])
def test_training_learns_in_every_precision(project: Project, precision: str) -> None:
    if precision == "tf32" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("has no TF32")
    shutil.rmtree(project.root / "data/Colours/train")
    write_images(project.root / "data/Colours/train", 48)
    project.set(device="cuda", precision=precision, epochs=6, batch_size=16, model_lr=0.02, model_ema_decay=0.8)
    project.set(loss_label_smoothing=0.0, model_dropout=0.0, random_crop_scale=None, num_workers=2)
    last = project.run_well("train.py").splitlines()
    closing = [line for line in last if line.startswith(" * Epoch ")]
    assert len(closing) == 6
    assert float(re.search(r"Best ([\d.]+)", closing[-1])[1]) > 60  # three colours; chance is 33


@pytest.mark.parametrize("precision", ["auto", "float16"])
def test_deterministic_runs_resume_to_the_same_bits(
    project: Project, tmp_path_factory: pytest.TempPathFactory, precision: str
) -> None:
    prepare(project, device="cuda", precision=precision, deterministic=True, num_workers=2, cutmix_alpha=1.0)
    straight = project.copy_to(tmp_path_factory.mktemp("straight") / "project")
    straight.run_well("train.py")
    project.set(resume="auto")
    status, lines = run_and_signal(project, "Epoch: [2][2/6]", signal.SIGINT)
    assert status == 130, lines
    project.run_well("train.py")
    one, other = (read(each.root / SAMPLES / "epoch_3.pth.tar") for each in (project, straight))
    one["config"].pop("resume"), other["config"].pop("resume")
    assert_equal(one, other)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_other_tasks_train_with_routines_that_repeat(tmp_path: Path, task: str) -> None:
    """Where torch has none it ends the run with an error."""
    settings = SMALL | {"device": "cuda", "deterministic": True, "epochs": 1}
    root = create_task_project(tmp_path / "project", task, settings)
    assert " * Epoch 1/1 " in run(root, f"{task}/train.py")


class WatchedBatches(RepeatedBatch):
    """Forbids to wait for the GPU from the third batch to the last."""

    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.5)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(super().__iter__()):
            if number == 2:
                torch.cuda.set_sync_debug_mode("error")
            yield batch
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_steps_do_not_wait_for_the_gpu(flags: None, precision: str) -> None:
    device = utils.setup_runtime(0, "cuda", precision)
    settings = runpy.run_path(str(ROOT / "config.py")) | {"precision": precision, "device": "cuda"}
    settings |= {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "train_print_frequency": 100}
    images = torch.randn(16, 3, 64, 64, device=device).contiguous(memory_format=torch.channels_last)
    batches = WatchedBatches([(images, torch.arange(16, device=device) % 10)] * 8)
    state = train.create_train_state(SimpleNamespace(**settings), device, batches)
    state.epoch = 1
    try:
        with pytest.raises(RuntimeError, match="synchronizing"):
            torch.cuda.set_sync_debug_mode("error")
            images.sum().item()
        torch.cuda.set_sync_debug_mode("default")
        train.train_one_epoch(SimpleNamespace(**settings), state, batches, reports.SilentWriter(), lambda: None)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_gradients_and_momentum_have_the_layout_of_their_parameter(flags: None) -> None:
    """A fused operation refuses other strides on a GPU, and misreads them on the CPU."""
    device = utils.setup_runtime(0, "cuda", "bfloat16")
    settings = runpy.run_path(str(ROOT / "config.py")) | {"precision": "bfloat16", "device": "cuda"}
    images = torch.randn(16, 3, 64, 64, device=device).contiguous(memory_format=torch.channels_last)
    state = train.create_train_state(SimpleNamespace(**settings), device, RepeatedBatch([(images, None)]))
    with utils.autocast(device, torch.bfloat16):
        state.network(images).sum().backward()
    for parameter in state.network.parameters():
        momentum = state.optimizer.state[parameter]["momentum_buffer"]
        assert layout(parameter.grad) == layout(momentum) == layout(parameter)


def layout(tensor: Tensor) -> list[int]:
    """Strides; those of an axis of length 1 mean nothing."""
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
