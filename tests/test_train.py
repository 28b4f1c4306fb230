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
from functools import partial
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
import utils
from shared.small_training import CLASSES, write_images

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


def test_average_leaves_counters_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """One operation for all that has a fraction: 158 parameters, and two statistics of each of 52 batch-norms."""
    state, calls = train_state(), []
    monkeypatch.setattr(train, "get_ema_multi_avg_fn", lambda decay: lambda *lists: calls.append(lists[:2]))
    state.ema_network.update_parameters(state.network)
    assert [(len(averaged), len(current)) for averaged, current in calls] == [(262, 262)]
    assert all(tensor.is_floating_point() for averaged, current in calls for tensor in (*averaged, *current))
    state.network.get_buffer("features.0.1.num_batches_tracked").fill_(3)
    saved = utils.averaged_weights(state)
    assert saved["features.0.1.num_batches_tracked"] == 3
    assert list(saved) == list(state.network.state_dict())
    for name, value in state.ema_network.module.named_parameters():
        assert torch.equal(saved[name], value)


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


def momenta(state: train.TrainState) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each parameter with its momentum."""
    return [(parameter, values["momentum_buffer"]) for parameter, values in state.optimizer.state.items()]


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


def test_momentum_of_a_checkpoint_gets_the_layout_of_its_parameter() -> None:
    """Whatever layout and number format it was saved in; what was not saved is zero."""
    state = train_state()
    weight = next(state.network.parameters())
    saved = torch.arange(weight.numel(), dtype=torch.float64).reshape(weight.shape)
    assert saved.stride() != weight.stride()
    utils.fill_momentum(state.optimizer, {0: saved, 1: None})
    pairs = momenta(state)
    assert torch.equal(pairs[0][1].double(), saved)
    assert all(momentum.stride() == parameter.stride() for parameter, momentum in pairs)
    assert not any(momentum.any() for _, momentum in pairs[1:])


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
    averages = train.train_one_epoch(SimpleNamespace(**settings), state, batches, train.SilentWriter(), lambda: None)
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


def test_the_end_names_images_left_out_and_other_weights(
    trained_project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """150 images in batches of 16 leave 6; model_weights_path is the file of another run."""
    monkeypatch.chdir(trained_project.root)
    monkeypatch.setenv("EXP_NAME", "MobileNetV2-Colours")
    config = config_with(exp_name="MobileNetV2-Colours", batch_size=16, model_weights_path="results/other/best.pth.tar")
    config.__file__ = "config.py"

    class Batches(list):
        dataset = range(150)

    train.print_end(config, Batches([None] * 9))
    left_out, weights, commands = capsys.readouterr().out.splitlines()[1:]
    assert left_out.startswith("Each epoch left out 6 of 150 training images")
    expected = 'To use them, set config.py line 89: model_weights_path = "results/MobileNetV2-Colours/best.pth.tar".'
    assert weights == expected
    assert commands.startswith("Go on with `EXP_NAME=MobileNetV2-Colours python3 inference.py IMAGE`")


@pytest.mark.parametrize(("batch_size", "is_named"), [(1, True), (2, False)])
def test_one_image_a_batch_is_named_before_the_run(
    batch_size: int, is_named: bool, capsys: pytest.CaptureFixture
) -> None:
    config = config_with(batch_size=batch_size, image_size=64, __file__=str(ROOT / "config.py"))
    state = SimpleNamespace(network=nn.Linear(1, 1), device="cpu", dtype=torch.float32, epoch=0)
    batches = SimpleNamespace(dataset=range(9))
    train.print_run(config, state, batches, batches, start=None)
    assert ("batch_size = 1 (config.py line 56): batch-norm sees one" in capsys.readouterr().out) == is_named


def test_what_the_training_loss_has_beyond_that_of_validation_is_named() -> None:
    bare = {"loss_label_smoothing": 0, "model_dropout": 0, "random_crop_scale": None}
    taken_with = "The two losses do not compare: that of training is taken with "
    assert train.compare_losses(config_with(**bare)).startswith(f"{taken_with}weights that still move;")
    shipped = train.compare_losses(config_with())
    assert shipped.startswith(f"{taken_with}label smoothing, dropout, augmentation, weights that still move;")
    assert "mixed images" in train.compare_losses(config_with(cutmix_alpha=1.0))


@pytest.mark.parametrize(
    ("train_loss", "valid_loss", "expected"),
    [
        (10.7557, 2226.1659, "The training loss 10.76 is far above 2.30"),  # Digits, model_lr = 10, first epoch
        (2.5970, 77.6946, "The validation loss 77.69 is far above 2.30"),  # Digits, model_lr = 1, second epoch
        (2.2814, 2.3492, ""),  # Digits as shipped, first epoch
        (2.4, 4.5, ""),  # one that is sure of wrong answers
    ],
)
def test_a_loss_far_above_that_of_guessing_is_named(
    train_loss: float, valid_loss: float, expected: str, capsys: pytest.CaptureFixture
) -> None:
    """Guessing among 10 classes has loss ln 10 = 2.30."""
    train.warn_of_rate(config_with(model_lr=10, __file__=str(ROOT / "config.py")), train_loss, valid_loss)
    printed = capsys.readouterr().out
    assert printed.startswith(expected) and bool(printed) == bool(expected)
    assert not printed or "model_lr = 10 (config.py line 58) is too high" in printed


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
    assert last["state_dict"]["features.0.1.num_batches_tracked"] == 6 * 9  # which is no number to average
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
    """The checkpoint of epoch 2 alone, as a killed run leaves it, leads to the bits of the uninterrupted run.

    So it does after another program has saved it again, which does not know its layouts, and with the counters of
    earlier versions, which were averaged too.
    """
    project.set(epochs=4, keep_checkpoints=4, **options)
    project.run_well("train.py")
    resumed = Project(tmp_path_factory.mktemp("resumed"))
    resumed.set(epochs=4, resume="auto", **options)
    middle = "samples/MobileNetV2-Colours/epoch_2.pth.tar"
    (resumed.root / middle).parent.mkdir(parents=True)
    save_as_others(read(project.root / middle), resumed.root / middle)
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


def save_as_others(checkpoint: dict, path: Path) -> None:
    momenta = [values["momentum_buffer"] for values in checkpoint["optimizer"]["state"].values()]
    assert not all(momentum.is_contiguous() for momentum in momenta)
    for momentum, values in zip(momenta, checkpoint["optimizer"]["state"].values(), strict=True):
        values["momentum_buffer"] = momentum.contiguous()
    for name in ("state_dict", "ema_state_dict"):
        checkpoint[name] = {key: value.contiguous() for key, value in checkpoint[name].items()}
    checkpoint["ema_state_dict"]["features.0.1.num_batches_tracked"].fill_(5)
    torch.save(checkpoint, path)


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
