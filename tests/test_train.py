# SPDX-License-Identifier: Apache-2.0
"""train.py: its parts against hand-made numbers, and whole runs as users make them."""

import re
import runpy
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkpoint_files import assert_equal, momenta, read, train_state
from conftest import ROOT, Project, config_with
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

import train
from core import moving_average, reports, training_loss
from shared.small_training import CountedImages, write_images

WEIGHTS_KEYS = {
    *("state_dict", "model_arch_name", "model_width_mult", "model_mean_parameters", "model_std_parameters"),
    *("image_size", "apply_orientation", "class_names", "acc1", "epoch", "model_padding", "model_batch_norm_eps"),
}


@pytest.mark.parametrize("apply_orientation", [False, True])
def test_both_splits_take_the_orientation_of_the_config(tmp_path: Path, apply_orientation: bool) -> None:
    write_images(tmp_path, 2)
    config = config_with(
        **{"train_image_dir": str(tmp_path), "valid_image_dir": str(tmp_path), "model_num_classes": 3},
        **{"batch_size": 4, "num_workers": 0, "apply_orientation": apply_orientation},
    )
    splits = train.create_splits(config, torch.device("cpu"), train.CLASSIFIER)
    assert [batches.dataset.apply_orientation for batches in splits] == [apply_orientation] * 2


def test_momentum_is_zero_and_in_the_layout_of_its_parameter_before_the_first_step() -> None:
    """Left to torch, fused SGD makes it of unwritten memory if GradScaler skips the first step."""
    pairs = momenta(train_state())
    assert len(pairs) == 52 * 3 + 2  # convolution, scale and bias of each batch-norm; the classifier
    for parameter, momentum in pairs:
        assert momentum.stride() == parameter.stride()
        assert not momentum.any()
    assert momenta(train_state(model_momentum=0.0)) == []


def test_first_step_is_that_of_sgd_without_momentum_before() -> None:
    state, other = (train_state() for _ in range(2) if torch.manual_seed(0))
    for parameter in other.network.parameters():
        del other.optimizer.state[parameter]
    for seed in range(3):
        for each in (state, other):
            torch.manual_seed(seed)
            for parameter in each.network.parameters():
                parameter.grad = torch.randn_like(parameter)
            each.optimizer.step()
    assert_equal(state.network.state_dict(), other.network.state_dict())


def train_in_float16(monkeypatch: pytest.MonkeyPatch, is_fused: bool) -> train.TrainState:
    """Five steps as on a GPU, where float16 has a scaler; the first ones overflow and are skipped."""
    settings = runpy.run_path(str(ROOT / "config.py")) | {"model_width_mult": 0.35}
    torch.manual_seed(0)
    batches = RepeatedBatch([(torch.randn(8, 3, 32, 32), torch.arange(8))] * 5)
    with monkeypatch.context() as patch:
        patch.setattr(train, "choose_dtype", lambda *_: torch.float16)
        if not is_fused:
            patch.setattr(torch.optim, "SGD", partial(plain_sgd, torch.optim.SGD))
        state = train.create_train_state(SimpleNamespace(**settings), torch.device("cpu"), batches)
    state.epoch = 1
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    averages = train.train_one_epoch(SimpleNamespace(**settings), state, batches, reports.SilentWriter(), lambda: None)
    assert 0 < averages["skipped"] < 5
    return state


def plain_sgd(kind: type[torch.optim.SGD], groups: list, fused: bool, **options: float) -> torch.optim.SGD:
    return kind(groups, fused=False, foreach=False, **options)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # plain SGD is not called for a skipped step
def test_float16_takes_the_steps_of_plain_sgd(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, plain = (train_in_float16(monkeypatch, is_fused) for is_fused in (True, False))
    assert fused.scaler.state_dict() == plain.scaler.state_dict()
    for name, value in fused.network.state_dict().items():
        torch.testing.assert_close(value, plain.network.state_dict()[name], rtol=0, atol=1e-4, msg=name)


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
    shows_images = True

    def set_epoch(self, epoch: int, position: int) -> None:
        assert (epoch, position) == (1, 0)


def test_accumulated_steps_are_those_of_the_mean_gradient() -> None:
    """Three batches in groups of two: one step on the mean of the first two, one on the third alone."""
    torch.manual_seed(0)
    state = train_state(model_momentum=0.0, model_weight_decay=0.0, gradient_accumulation_steps=2)
    batches = FixedBatches((torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])) for _ in range(3))
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    state.network = state.parallel_network = network
    state.ema_network, state.epoch = moving_average.MovingAverage(network, 0.9), 1
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
    vars(config).update(
        loss_label_smoothing=0.0, mixup_alpha=0, cutmix_alpha=0, model_num_classes=3, class_weights=None
    )
    train.train_one_epoch(config, state, batches, SimpleNamespace(add_scalar=lambda *values: None), lambda: None)
    assert int(state.ema_network.n_averaged) == 2
    for name, value in network.named_parameters():
        assert torch.allclose(value, expected[name], atol=1e-6), name


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixing_gives_soft_targets(mixup: float, cutmix: float) -> None:
    mix = training_loss.create_mixing(SimpleNamespace(model_num_classes=3, mixup_alpha=mixup, cutmix_alpha=cutmix))
    torch.manual_seed(0)
    images, targets = mix(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 3, 32, 32)
    assert targets.shape == (4, 3)
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))


def test_mixing_is_off_at_zero() -> None:
    assert training_loss.create_mixing(SimpleNamespace(model_num_classes=3, mixup_alpha=0.0, cutmix_alpha=0)) is None


def test_training_learns_and_says_so(trained_project: Project) -> None:
    lines = trained_project.training_output.splitlines()
    progress = [line for line in lines if line.startswith("Epoch: [")]
    assert len(progress) == 6 * 5  # 144 images in batches of 16, a line every 2 and at the end
    assert re.fullmatch(
        r"Epoch: \[1\]\[2/9\] Time \d+\.\d{3} s Data \d+% Loss \d+\.\d{4} Acc@1 [\d.]+ \d+ images/s "
        r"Left \d+:\d\d:\d\d",
        progress[0],
    )
    closing = [line for line in lines if line.startswith(" * Epoch ")]
    assert len(closing) == 6
    best = float(re.search(r"Best ([\d.]+)", closing[-1])[1])
    assert best > 60  # three colours; chance is 33
    assert not [line for line in lines if "far above" in line]
    assert "The two losses do not compare: that of training is taken with weights that still move" in "\n".join(lines)


def test_training_ends_with_its_best_weights_and_how_to_go_on(trained_project: Project) -> None:
    """The epoch is the first that reached the best accuracy, by the lines of the epochs."""
    *_, best_line, next_line = trained_project.training_output.splitlines()
    closing = re.findall(r"(?m)^ \* Epoch (\d+)/6 Acc@1 (\d+\.\d{3}) ", trained_project.training_output)
    epoch, acc1 = max(closing, key=lambda found: (float(found[1]), -int(found[0])))
    results = "results/MobileNetV2-Colours"
    expected = f"Best weights: {results}/best.pth.tar, of epoch {epoch} (Acc@1 {acc1}). Those of the last epoch: "
    assert best_line == f"{expected}{results}/last.pth.tar."
    commands = '`python3 inference.py IMAGE`, or `python3 test.py` after mode = "test" (config.py line 36).'
    assert next_line == f"Go on with {commands}"


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


def test_weights_file_holds_the_validated_average(trained_project: Project) -> None:
    last = read(trained_project.root / "results/MobileNetV2-Colours/last.pth.tar")
    checkpoint = read(trained_project.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar")
    assert set(last) == WEIGHTS_KEYS
    assert_equal(last["state_dict"], checkpoint["ema_state_dict"])
    assert last["state_dict"]["features.0.1.num_batches_tracked"] == 6 * 9  # which is no number to average
    assert last["image_size"] == 32
    assert (last["model_padding"], last["model_batch_norm_eps"]) == ("symmetric", 1e-5)
    assert last["model_mean_parameters"] == [0.485, 0.456, 0.406]
    best = read(trained_project.root / "results/MobileNetV2-Colours/best.pth.tar")
    assert best["acc1"] == checkpoint["best_acc1"] >= last["acc1"]


def test_average_moves_with_its_batch_norm_buffers(trained_project: Project) -> None:
    one, two = (read(trained_project.root / f"samples/MobileNetV2-Colours/epoch_{n}.pth.tar") for n in (1, 2))
    for name in ("features.0.0.weight", "features.0.1.running_mean", "features.0.1.running_var"):
        assert not torch.equal(one["ema_state_dict"][name], two["ema_state_dict"][name])
        assert not torch.equal(two["state_dict"][name], two["ema_state_dict"][name])


def test_only_the_newest_checkpoints_stay(project: Project) -> None:
    project.set(epochs=3, keep_checkpoints=2)
    project.run_well("train.py")
    names = sorted(path.name for path in (project.root / "samples/MobileNetV2-Colours").iterdir())
    assert names == ["epoch_2.pth.tar", "epoch_3.pth.tar"]


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

    dataset = CountedImages(12)

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
        train.train_one_epoch(SimpleNamespace(**settings), state, batches, reports.SilentWriter(), lambda: None)
    return reads.count


def test_steps_read_nothing_from_the_device() -> None:
    with ReadsOfTensors() as reads:
        torch.zeros(1).item()
    assert reads.count == 1
    assert count_reads(steps=5) == count_reads(steps=2)  # those of the line at the end of the epoch
