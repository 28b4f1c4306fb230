# SPDX-License-Identifier: Apache-2.0
"""train.py: its parts against hand-made numbers, and whole runs as users make them."""

import contextlib
import fcntl
import os
import pty
import re
import runpy
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, Project, config_with
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

import train
from small_training import CLASSES, write_images

CHECKPOINT_KEYS = {
    *("epoch", "position", "epoch_sums", "best_acc1", "state_dict", "ema_state_dict", "ema_updates"),
    *("optimizer", "scheduler", "scaler", "class_names", "config"),
}
WEIGHTS_KEYS = {
    *("state_dict", "model_arch_name", "model_width_mult", "model_mean_parameters", "model_std_parameters"),
    *("image_size", "apply_orientation", "class_names", "acc1", "epoch"),
}


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_equal(one: object, other: object, where: str = "") -> None:
    """Bit for bit, through dictionaries and lists."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def test_schedule_by_hand() -> None:
    factor = train.warmup_cosine(warmup_steps=4, total_steps=12)
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factor(8) == pytest.approx(0.5)  # half way down
    assert factor(6) == pytest.approx((2 + 2**0.5) / 4)  # (1 + cos 45 degrees) / 2
    assert factor(12) == factor(13) == 0.0


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 3), (5, 3), (3, 3)])
def test_short_runs_have_a_schedule(warmup: int, total: int) -> None:
    factor = train.warmup_cosine(warmup, total)
    assert all(0 < factor(step) <= 1 for step in range(total))


def test_average_keeps_the_past_and_warms_up() -> None:
    source = nn.BatchNorm1d(1)
    average = train.MovingAverage(source, decay=0.9)
    for update, value in enumerate((0.0, 1.0, 1.0)):
        nn.init.constant_(source.weight, value)
        source.running_mean.fill_(10 * value)
        average.update_parameters(source)
        assert int(average.n_averaged) == update + 1
    # update 0 copies; update 1 keeps (1 + 1) / (10 + 1) of 0; update 2 keeps (1 + 2) / (10 + 2) of that
    expected = 1 - (2 / 11) * (3 / 12)
    assert average.module.weight.item() == pytest.approx(expected)
    assert average.module.running_mean.item() == pytest.approx(10 * expected)


def test_average_reaches_its_decay() -> None:
    source = nn.Linear(1, 1, bias=False)
    average = train.MovingAverage(source, decay=0.5)
    average.n_averaged.fill_(1000)
    nn.init.zeros_(average.module.weight)
    nn.init.ones_(source.weight)
    average.update_parameters(source)
    assert average.module.weight.item() == pytest.approx(0.5)


def train_state(**changes: object) -> train.TrainState:
    config = SimpleNamespace(
        **{"model_arch_name": "mobilenet_v2", "model_num_classes": 3, "model_width_mult": 0.35, "model_dropout": 0.2},
        **{"model_weight_decay": 4e-5, "model_lr": 0.1, "model_momentum": 0.9, "model_ema_decay": 0.99},
        **{"precision": "float32", "image_size": 32, "gradient_accumulation_steps": 1, "lr_warmup_epochs": 1},
        epochs=3,
        sync_batch_norm=False,
    )
    vars(config).update(changes)

    class Batches:
        dataset = SimpleNamespace(classes=list(CLASSES), targets=range(10_000))

        def __len__(self) -> int:
            return 7

    return train.create_train_state(config, torch.device("cpu"), Batches())


@pytest.mark.parametrize("apply_orientation", [False, True])
def test_both_splits_take_the_orientation_of_the_config(tmp_path: Path, apply_orientation: bool) -> None:
    write_images(tmp_path, 2)
    config = config_with(
        **{"train_image_dir": str(tmp_path), "valid_image_dir": str(tmp_path), "model_num_classes": 3},
        **{"batch_size": 4, "num_workers": 0, "apply_orientation": apply_orientation},
    )
    splits = train.create_splits(config, torch.device("cpu"))
    assert [batches.dataset.apply_orientation for batches in splits] == [apply_orientation] * 2


def test_weight_decay_spares_batch_norm_and_biases() -> None:
    state = train_state()
    decays = {
        id(parameter): group["weight_decay"] for group in state.optimizer.param_groups for parameter in group["params"]
    }
    for module in state.network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_kernel = isinstance(module, (nn.Conv2d, nn.Linear)) and name == "weight"
            assert decays.pop(id(parameter)) == (4e-5 if is_kernel else 0.0)
    assert not decays
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in state.optimizer.param_groups)


def test_steps_per_epoch_count_a_last_smaller_group() -> None:
    assert train_state(gradient_accumulation_steps=3).steps_per_epoch == 3  # 7 batches: 3 + 3 + 1


def test_network_is_channels_last_and_average_is_its_copy() -> None:
    state = train_state()
    assert state.network.features[0][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(state.ema_network, AveragedModel)
    assert_equal(state.network.state_dict(), state.ema_network.module.state_dict())


class FixedBatches(list):
    """Batches that are given, where train.py expects a prefetcher."""

    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.5)

    def set_epoch(self, epoch: int, position: int) -> None:
        assert (epoch, position) == (1, 0)


def test_accumulated_steps_are_those_of_the_mean_gradient() -> None:
    """Three batches in groups of two: one step on the mean of the first two, one on the third alone."""
    torch.manual_seed(0)
    state = train_state(model_momentum=0.0, model_weight_decay=0.0, gradient_accumulation_steps=2)
    batches = FixedBatches((torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])) for _ in range(3))
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    state.network = state.parallel_network = network
    state.ema_network, state.epoch = train.MovingAverage(network, 0.9), 1
    state.optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    state.scheduler = torch.optim.lr_scheduler.LambdaLR(state.optimizer, lambda step: 1 / (step + 1))
    expected = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
    for rate, group in ((0.5, batches[:2]), (0.25, batches[2:])):
        losses = [
            nn.functional.cross_entropy(images.flatten(1) @ expected["1.weight"].T + expected["1.bias"], targets)
            for images, targets in group
        ]
        gradients = torch.autograd.grad(sum(losses) / len(losses), list(expected.values()))
        for value, gradient in zip(expected.values(), gradients, strict=True):
            value.data -= rate * gradient
    config = SimpleNamespace(seed=0, epochs=3, batch_size=4, gradient_accumulation_steps=2, train_print_frequency=9)
    vars(config).update(loss_label_smoothing=0.0, mixup_alpha=0, cutmix_alpha=0, model_num_classes=3)
    train.train_one_epoch(config, state, batches, SimpleNamespace(add_scalar=lambda *values: None), lambda: None)
    assert int(state.ema_network.n_averaged) == 2
    for name, value in network.named_parameters():
        assert torch.allclose(value, expected[name], atol=1e-6), name


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixing_gives_soft_targets(mixup: float, cutmix: float) -> None:
    mix = train.create_mixing(SimpleNamespace(model_num_classes=3, mixup_alpha=mixup, cutmix_alpha=cutmix))
    torch.manual_seed(0)
    images, targets = mix(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 3, 32, 32)
    assert targets.shape == (4, 3)
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))


def test_mixing_is_off_at_zero() -> None:
    assert train.create_mixing(SimpleNamespace(model_num_classes=3, mixup_alpha=0.0, cutmix_alpha=0)) is None


def test_training_learns_and_says_so(trained_project: Project) -> None:
    lines = trained_project.training_output.splitlines()
    progress = [line for line in lines if line.startswith("Epoch: [")]
    assert len(progress) == 6 * 5  # 144 images in batches of 16, a line every 2 and at the end
    assert re.fullmatch(
        r"Epoch: \[1\]\[2/9\] Time \d+\.\d{3} s Data \d+% Loss \d+\.\d{4} Acc@1 [\d.]+ Acc@5 100\.00 \d+ images/s "
        r"Left \d+:\d\d:\d\d",
        progress[0],
    )
    closing = [line for line in lines if line.startswith(" * Epoch ")]
    assert len(closing) == 6
    best = float(re.search(r"Best ([\d.]+)", closing[-1])[1])
    assert best > 60  # three colours; chance is 33


def test_cached_images_give_the_same_weights(trained_copy: Project, trained_project: Project) -> None:
    trained_copy.set(cache_images=True)
    trained_copy.root.joinpath("config.py").write_text(
        trained_copy.root.joinpath("config.py").read_text().replace('f"MobileNetV2-{dataset_name}"', '"Cached"')
    )
    trained_copy.run_well("train.py")
    weights = [
        read(project.root / f"results/{name}/last.pth.tar")["state_dict"]
        for project, name in ((trained_project, "MobileNetV2-Colours"), (trained_copy, "Cached"))
    ]
    assert_equal(*weights)


def test_files_of_a_run(trained_project: Project) -> None:
    samples, results = trained_project.root / "samples/MobileNetV2-Colours", trained_project.root / "results"
    assert sorted(path.name for path in samples.iterdir()) == [f"epoch_{n}.pth.tar" for n in range(1, 7)]
    assert sorted(path.name for path in (results / "MobileNetV2-Colours").iterdir()) == ["best.pth.tar", "last.pth.tar"]


def test_checkpoint_keys_are_frozen(trained_project: Project) -> None:
    checkpoint = read(trained_project.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar")
    assert set(checkpoint) == CHECKPOINT_KEYS
    assert checkpoint["epoch"] == 6
    assert checkpoint["position"] == 0
    assert checkpoint["ema_updates"] == 6 * 9
    assert checkpoint["class_names"] == sorted(CLASSES)
    assert checkpoint["config"]["batch_size"] == 16
    assert not [name for name in checkpoint["state_dict"] if name.startswith(("module.", "_orig_mod."))]


def test_weights_file_holds_the_validated_average(trained_project: Project) -> None:
    last = read(trained_project.root / "results/MobileNetV2-Colours/last.pth.tar")
    checkpoint = read(trained_project.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar")
    assert set(last) == WEIGHTS_KEYS
    assert_equal(last["state_dict"], checkpoint["ema_state_dict"])
    assert last["image_size"] == 32
    assert last["model_mean_parameters"] == [0.485, 0.456, 0.406]
    best = read(trained_project.root / "results/MobileNetV2-Colours/best.pth.tar")
    assert best["acc1"] == checkpoint["best_acc1"] >= last["acc1"]


def test_average_moves_with_its_batch_norm_buffers(trained_project: Project) -> None:
    one, two = (read(trained_project.root / f"samples/MobileNetV2-Colours/epoch_{n}.pth.tar") for n in (1, 2))
    for name in ("features.0.0.weight", "features.0.1.running_mean", "features.0.1.running_var"):
        assert not torch.equal(one["ema_state_dict"][name], two["ema_state_dict"][name])
        assert not torch.equal(two["state_dict"][name], two["ema_state_dict"][name])


def test_tensorboard_has_every_curve_and_the_pictures_once(trained_project: Project) -> None:
    events = EventAccumulator(str(trained_project.root / "samples/logs/MobileNetV2-Colours"))
    events.Reload()
    train_tags = {f"Train/{name}" for name in ("Loss", "Acc@1", "Acc@5", "Learning rate", "Images per second")}
    assert set(events.Tags()["scalars"]) == train_tags | {f"Valid/{name}" for name in ("Loss", "Acc@1", "Acc@5")}
    assert [event.step for event in events.Scalars("Train/Loss")] == [
        9 * epoch + batch for epoch in range(6) for batch in (2, 4, 6, 8, 9)
    ]
    assert [event.step for event in events.Scalars("Valid/Acc@1")] == [9, 18, 27, 36, 45, 54]
    assert len(events.Images("Train/Augmented images")) == 1


def test_terminal_shows_a_bar(project: Project) -> None:
    project.set(epochs=1)
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = os.environ | {"MODE": "train", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "train.py"], cwd=project.root, stdout=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux tells that the other end has closed
            while part := os.read(reader, 4096):
                shown += part
    os.close(reader)
    assert process.returncode == 0
    assert "| 0/6 [" in shown.decode()
    assert "Epoch: [1][2/6]" in shown.decode()


def test_only_the_newest_checkpoints_stay(project: Project) -> None:
    project.set(epochs=3, keep_checkpoints=2)
    project.run_well("train.py")
    names = sorted(path.name for path in (project.root / "samples/MobileNetV2-Colours").iterdir())
    assert names == ["epoch_2.pth.tar", "epoch_3.pth.tar"]


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 2, "mixup_alpha": 0.2, "cutmix_alpha": 1.0, "gradient_accumulation_steps": 4},
        {"num_workers": 0, "precision": "bfloat16", "trivial_augment": True, "random_erasing_probability": 0.5},
    ],
)
def test_two_and_two_epochs_equal_four(project: Project, tmp_path_factory, options: dict) -> None:
    """The checkpoint of epoch 2 alone, as a killed run leaves it, leads to the bits of the uninterrupted run."""
    project.set(epochs=4, keep_checkpoints=4, **options)
    project.run_well("train.py")
    resumed = Project(tmp_path_factory.mktemp("resumed"))
    resumed.set(epochs=4, resume="auto", **options)
    middle = "samples/MobileNetV2-Colours/epoch_2.pth.tar"
    (resumed.root / middle).parent.mkdir(parents=True)
    shutil.copy(project.root / middle, resumed.root / middle)
    printed = resumed.run_well("train.py")
    assert "epoch_2.pth.tar` after 2 of 4 epochs" in printed
    assert "Epoch: [2]" not in printed
    one, other = (read(run.root / "samples/MobileNetV2-Colours/epoch_4.pth.tar") for run in (project, resumed))
    for checkpoint in (one, other):
        for name in ("resume", "keep_checkpoints"):
            del checkpoint["config"][name]
    assert_equal(one, other)
    last = "results/MobileNetV2-Colours/last.pth.tar"
    assert_equal(read(project.root / last), read(resumed.root / last))


def test_resume_takes_the_newest_readable_checkpoint(trained_copy: Project) -> None:
    samples = trained_copy.root / "samples/MobileNetV2-Colours"
    expected = read(samples / "epoch_6.pth.tar")
    (samples / "epoch_6.pth.tar").write_bytes((samples / "epoch_6.pth.tar").read_bytes()[:5000])
    trained_copy.set(resume="auto")
    printed = trained_copy.run_well("train.py")
    assert "epoch_6.pth.tar: damaged" in printed
    assert "epoch_5.pth.tar` after 5 of 6 epochs" in printed
    resumed = read(samples / "epoch_6.pth.tar")
    for checkpoint in (expected, resumed):
        del checkpoint["config"]["resume"]
    assert_equal(expected, resumed)


def test_resume_names_changed_values_and_uses_them(trained_copy: Project) -> None:
    path = "samples/MobileNetV2-Colours/epoch_5.pth.tar"
    (trained_copy.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar").unlink()
    trained_copy.set(resume=path, model_lr=0.05, epochs=7, model_weight_decay=0.0)
    printed = trained_copy.run_well("train.py")
    assert "Resume: model_lr was 0.02, now 0.05: the new value holds." in printed
    assert "Resume: epochs was 6, now 7: the new value holds." in printed
    optimizer = read(trained_copy.root / "samples/MobileNetV2-Colours/epoch_7.pth.tar")["optimizer"]
    assert [group["initial_lr"] for group in optimizer["param_groups"]] == [0.05, 0.05]
    assert [group["weight_decay"] for group in optimizer["param_groups"]] == [0.0, 0.0]


def test_finished_run_has_nothing_left_to_do(trained_copy: Project) -> None:
    trained_copy.set(resume="auto")
    before = trained_copy.snapshot()
    assert "nothing is left to train" in trained_copy.run_well("train.py")
    assert trained_copy.snapshot() == before


def test_earlier_run_is_not_overwritten(trained_copy: Project) -> None:
    refusal = trained_copy.refusal("train.py")
    assert refusal.startswith("samples/MobileNetV2-Colours/epoch_6.pth.tar: of an earlier run")
    assert 'resume = "auto" (config.py line 53)' in refusal


def test_weights_of_an_earlier_run_are_not_overwritten(trained_copy: Project) -> None:
    shutil.rmtree(trained_copy.root / "samples")
    for resume in ("", "auto"):
        trained_copy.set(resume=resume)
        assert trained_copy.refusal("train.py").startswith(
            "results/MobileNetV2-Colours/last.pth.tar: of an earlier run"
        )


def test_nothing_is_overwritten_when_no_checkpoint_is_readable(trained_copy: Project) -> None:
    for path in (trained_copy.root / "samples/MobileNetV2-Colours").iterdir():
        path.write_bytes(b"damaged")
    trained_copy.set(resume="auto")
    assert "no checkpoint in it can be used" in trained_copy.refusal("train.py")


def test_going_back_does_not_mix_with_later_checkpoints(trained_copy: Project) -> None:
    trained_copy.set(resume="samples/MobileNetV2-Colours/epoch_3.pth.tar")
    refusal = trained_copy.refusal("train.py")
    assert refusal.startswith("samples/MobileNetV2-Colours/epoch_6.pth.tar: may be later than the 3 epochs")


def test_fine_tuning_starts_from_the_weights(trained_project: Project, project: Project) -> None:
    weights = trained_project.root / "results/MobileNetV2-Colours/best.pth.tar"
    shutil.rmtree(project.root / "data/Colours/train/red")
    shutil.rmtree(project.root / "data/Colours/valid/red")
    # With a rate of almost 0 the network stays what it started from.
    project.set(pretrained_model_weights_path=str(weights), model_num_classes=2, epochs=1, model_lr=1e-12)
    printed = project.run_well("train.py")
    assert "the classifier starts fresh: 2 classes, not 3." in printed
    tuned = read(project.root / "samples/MobileNetV2-Colours/epoch_1.pth.tar")["state_dict"]
    for name, value in read(weights)["state_dict"].items():
        if name.endswith(".weight") and not name.startswith("classifier"):
            assert torch.allclose(tuned[name], value, atol=1e-6), name


class ReadsOfTensors(TorchDispatchMode):
    """Counts the operations for which Python, on a GPU, would wait until all work before them is done."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


class RepeatedBatch(list):
    """Stands for the loader."""

    dataset = SimpleNamespace(targets=range(12), classes=[])

    def set_epoch(self, epoch: int, position: int) -> None:
        """All epochs are alike."""


def count_reads(steps: int) -> int:
    """In an epoch of so many steps."""
    settings = runpy.run_path(str(ROOT / "config.py")) | {"model_width_mult": 0.35, "train_print_frequency": 100}
    batches = RepeatedBatch([(torch.randn(4, 3, 32, 32), torch.arange(4))] * steps)
    state = train.create_train_state(SimpleNamespace(**settings), torch.device("cpu"), batches)
    state.ema_network = SimpleNamespace(update_parameters=lambda network: None)  # its count is on the CPU everywhere
    state.epoch = 1
    with ReadsOfTensors() as reads:
        train.train_one_epoch(SimpleNamespace(**settings), state, batches, train.SilentWriter(), lambda: None)
    return reads.count


def test_steps_read_nothing_from_the_device() -> None:
    with ReadsOfTensors() as reads:
        torch.zeros(1).item()
    assert reads.count == 1
    assert count_reads(steps=5) == count_reads(steps=2)  # those of the line at the end of the epoch
