# SPDX-License-Identifier: Apache-2.0
"""Errors, precision, metrics, and weights files."""

import contextlib
import errno
import gzip
import math
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from conftest import ROOT, config_with
from torch import nn

import utils
from core import atomic_files, metrics, network_weights, processes, settings, weights_files
from model import MobileNetV2

CPU = torch.device("cpu")


def small_network(num_classes: int = 3) -> MobileNetV2:
    return MobileNetV2(num_classes, width_mult=0.35)


def test_topk_hits_counts_by_hand() -> None:
    logits = torch.tensor([[9.0, 1, 2, 3, 4, 5, 0], [1, 9, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 6, 0]])
    # true classes: the highest, the fifth of seven, the lowest
    assert metrics.topk_hits(logits, torch.tensor([0, 2, 6])).tolist() == [1, 2]
    assert metrics.topk_hits(logits, torch.tensor([0, 1, 5])).tolist() == [3, 3]


@pytest.mark.parametrize("num_classes", [1, 2, 3, 4])
def test_top_5_of_fewer_classes_counts_every_image(num_classes: int) -> None:
    logits = torch.randn(6, num_classes, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(6) % num_classes
    expected = int((logits.argmax(dim=1) == targets).sum())
    assert metrics.topk_hits(logits, targets).tolist() == [expected, 6]


def test_topk_hits_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="2 rows of logits, 3 targets"):
        metrics.topk_hits(torch.zeros(2, 5), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("value", [np.float64(0.5), np.sqrt(0.25), 0.5])
def test_numbers_of_numpy_are_recorded_as_plain_ones(value: float) -> None:
    assert type(settings.to_plain({"model_lr": value})["model_lr"]) is float


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, True, "1", None])
def test_what_is_no_number(value: object) -> None:
    assert not settings.is_number(value)


@pytest.mark.parametrize("name", ["cuda:00", "cuda:999", "gpu", "cuda:", "", None, 0])
def test_what_is_no_device(name: object) -> None:
    assert not settings.is_device(name)


def test_same_weights_with_and_without_prefix_are_refused() -> None:
    with pytest.raises(ValueError, match="holds the same weights twice"):
        network_weights.extract_weights({"a": torch.zeros(1), "module.a": torch.ones(1)}, "w.pth")


def test_meter_weighs_batches_by_their_images() -> None:
    meter = metrics.EpochMeter(CPU)
    logits = torch.eye(6)
    meter.add(torch.tensor(1.0), logits, torch.arange(6))  # six images, all right
    meter.add(torch.tensor(4.0), logits[:2], torch.tensor([5, 5]))  # two images, both wrong; class 5 is in the top 5?
    averages = meter.averages()
    assert averages["loss"] == pytest.approx((6 * 1.0 + 2 * 4.0) / 8)
    assert averages["acc1"] == pytest.approx(75.0)
    assert averages["images"] == 8


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_meter_stops_at_a_loss_that_is_not_finite(loss: float) -> None:
    meter = metrics.EpochMeter(CPU)
    meter.add(torch.tensor(loss), torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(FloatingPointError, match="lower model_lr in config.py"):
        meter.averages()


def test_evaluate_uses_running_statistics_and_counts_every_image(capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    network = small_network()
    images, targets = torch.randn(10, 3, 32, 32), torch.arange(10) % 3
    with torch.no_grad():
        logits = network.eval()(images)
    network.train()
    seen = []
    batches = [(images[:4], targets[:4]), (images[4:8], targets[4:8]), (images[8:], targets[8:])]
    metrics = utils.evaluate(
        network, batches, device=CPU, dtype=torch.float32, print_frequency=2, on_logits=seen.append
    )
    assert torch.allclose(torch.cat(seen), logits, atol=1e-5)
    assert metrics["images"] == 10
    assert metrics["acc1"] == pytest.approx(10 * int((logits.argmax(1) == targets).sum()))
    assert metrics["loss"] == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), abs=1e-5)
    assert capsys.readouterr().out.startswith("Test: [2/3] Loss ")


@pytest.mark.parametrize(
    ("num_classes", "shown"),
    [(6, "Acc@1 83.90 Acc@5 95.90 Err@1 16.10 Err@5 4.10"), (5, "Acc@1 83.90 Err@1 16.10")],
)
def test_best_five_of_five_classes_are_not_shown(num_classes: int, shown: str) -> None:
    scores = {"loss": 0.6, "acc1": 83.9, "acc5": 95.9, "err1": 16.1, "err5": 4.1}
    assert metrics.show_scores(scores, num_classes, 2) == shown


def test_infinite_logits_of_trained_weights_are_not_blamed_on_the_rate() -> None:
    """Three times 3e38 is infinite in float32."""
    config = config_with(__file__=str(ROOT / "config.py"))
    network = nn.Linear(3, 6)
    nn.init.constant_(network.weight, 3e38)
    batches = [(torch.ones(2, 3), torch.tensor([0, 1]))]
    for dtype, line in ((torch.float32, 89), (torch.bfloat16, 89), (torch.float16, 22)):
        remedy = utils.remedy_for_weights(config, dtype)
        message = rf"^the loss became (nan|inf) in 2 images; .*\(config.py line {line}\)"
        with pytest.raises(FloatingPointError, match=message):
            utils.evaluate(network, batches, device=CPU, dtype=torch.float32, print_frequency=9, remedy=remedy)


def test_auto_precision_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    assert utils.choose_dtype("auto", CPU) == torch.float32
    for capability, dtype in (((9, 0), torch.bfloat16), ((7, 5), torch.float16), ((6, 1), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert utils.choose_dtype("auto", torch.device("cuda")) == dtype


def test_float16_on_the_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match='precision = "float16" needs a GPU'):
        utils.choose_dtype("float16", CPU)


def test_tf32_is_float32_on_the_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = r'^precision = "tf32" needs a GPU of 2020 \(Ampere\) or later; use "float32" or "auto"$'
    with pytest.raises(ValueError, match=refused):
        utils.choose_dtype("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(ValueError, match=refused):
        utils.choose_dtype("tf32", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert utils.choose_dtype("tf32", torch.device("cuda")) == torch.float32


def test_precision_is_recorded_by_the_name_that_says_it() -> None:
    assert settings.precision_name("tf32", torch.float32) == "tf32"
    assert settings.precision_name("auto", torch.bfloat16) == "bfloat16"


@pytest.fixture
def library_flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For setup_runtime() within this process: torch's flags are put back in the end."""
    monkeypatch.setattr(utils, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(utils, "cv2", MagicMock())
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    yield
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.mark.parametrize("precision", ["tf32", "float32", "auto", "bfloat16"])
def test_float32_is_no_tf32(precision: str, library_flags: None) -> None:
    """By itself torch rounds the factors of a convolution to TF32, and not those of a matrix product."""
    for first in ("tf32", precision):  # whatever was set before
        utils.setup_runtime(0, "cpu", first)
    is_rounded = precision == "tf32"
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == is_rounded
    # what torch.compile reads
    assert (torch.backends.cudnn.conv.fp32_precision == "tf32") == is_rounded
    assert torch.get_float32_matmul_precision() == ("high" if is_rounded else "highest")


def test_deterministic_sets_every_flag_and_resets_it(library_flags: None) -> None:
    for deterministic in (True, False):
        utils.setup_runtime(0, "cpu", deterministic=deterministic)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.backends.cudnn.deterministic == deterministic
        assert torch.backends.cudnn.benchmark == (not deterministic)
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"  # without the other flags it does no harm


def test_steps_have_their_own_random_numbers() -> None:
    draws = []
    for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)):
        utils.seed_step(*key)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[-1]
    assert len(set(draws)) == 4


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        ("ValueError('no such thing')", 2, "no such thing\n"),
        ("FileNotFoundError(2, 'No such file or directory', 'x.jpg')", 2, "x.jpg"),
        ("FloatingPointError('nan')", 2, "nan\n"),
        ("KeyboardInterrupt()", 130, "Interrupted"),
        ("ValueError('Caught ValueError in worker\\nOriginal Traceback\\nValueError: a.jpg: bad')", 2, "a.jpg: bad\n"),
    ],
)
def test_errors_of_users_are_one_line(error: str, status: int, line: str) -> None:
    program = f"import utils\nwith utils.user_errors():\n    raise {error}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(utils.__file__).parent
    )
    assert done.returncode == status
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_missing_is_named_with_the_place_of_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    absolute = f"{tmp_path}/x.pth: no such file"
    for message, place in (
        ("./results/x.pth: no such file; train first", f" (looked for at {tmp_path}/results/x.pth)"),
        (absolute, ""),
        ("empty: no images", ""),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            raise FileNotFoundError(message)
        assert utils.describe_error(caught.value) == message + place


class Left(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> contextlib.AbstractContextManager:
    """joined_processes() of two, of which the other never answers."""

    def wait_for_ever() -> None:
        raise AssertionError("would wait for what the other process does not send")

    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(utils, "meeting_store", lambda: (None, 0, 2))
    monkeypatch.setattr(utils.dist, "init_process_group", lambda *arguments, **options: None)
    monkeypatch.setattr(utils.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(utils.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(utils.dist, "destroy_process_group", wait_for_ever)
    monkeypatch.setattr(os, "_exit", leave)
    return processes.joined_processes(CPU)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("no such thing"), 2, "no such thing\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (SystemExit(143), 143, ""),
        (KeyError("a defect"), 1, "KeyError: 'a defect'\n"),
    ],
)
def test_an_error_among_processes_is_printed_and_ends_this_one_at_once(
    joined: contextlib.AbstractContextManager,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    words: str,
) -> None:
    with pytest.raises(Left) as left, utils.user_errors(), joined:
        raise error
    assert left.value.args == (status,)
    assert capsys.readouterr().err.endswith(words)


def test_processes_part_after_success(
    joined: contextlib.AbstractContextManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    parted = []
    monkeypatch.setattr(utils.dist, "destroy_process_group", lambda: parted.append(True))
    with utils.user_errors(), joined:
        pass
    assert parted == [True]


def test_defects_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(KeyError), utils.user_errors():
        raise KeyError("a defect")


def write_old_file(folder: Path) -> Path:
    path = folder / "weights.pth.tar"
    atomic_files.write_atomically(path, lambda file: file.write(b"old"))
    assert path.read_bytes() == b"old"
    return path


def assert_only_the_old_file_is_there(path: Path) -> None:
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_full_disk_is_named_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_old_file(tmp_path)
    monkeypatch.setattr(utils, "open", lambda *_: open("/dev/full", "wb"), raising=False)  # noqa: SIM115
    line = f"^{path}: No space left on device; make room for it; the files before it stay$"
    with pytest.raises(OSError, match=line):
        atomic_files.write_atomically(path, lambda file: torch.save(small_network().state_dict(), file))
    assert_only_the_old_file_is_there(path)


def test_full_disk_at_the_end_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_old_file(tmp_path)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)  # where file systems that reserve late tell of it
    with pytest.raises(OSError, match="No space left on device"):
        atomic_files.write_atomically(path, lambda file: file.write(b"new"))
    assert_only_the_old_file_is_there(path)


def test_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_old_file(tmp_path)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_files.write_atomically(path, lambda file: file.write(b"new"))
    assert_only_the_old_file_is_there(path)


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """A folder of a user whom permissions bind, who this process is until the test ends."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        if is_root:
            os.chown(name, NOBODY, -1)
            os.seteuid(NOBODY)
        yield Path(name)
        if is_root:
            os.seteuid(0)
        os.chmod(name, 0o755)


NOBODY = 65534


def test_read_only_folder_is_named(unprivileged_folder: Path) -> None:
    path = write_old_file(unprivileged_folder)
    unprivileged_folder.chmod(0o555)
    line = f"^{path}: Permission denied; it needs a folder that can be written to; the files before it stay$"
    with pytest.raises(OSError, match=line):
        atomic_files.write_atomically(path, lambda file: file.write(b"new"))
    assert_only_the_old_file_is_there(path)


def test_file_without_permission_is_named(unprivileged_folder: Path) -> None:
    path = write_old_file(unprivileged_folder)
    path.chmod(0)
    with pytest.raises(PermissionError, match=f"^{path}: Permission denied; name a weights file that you may read$"):
        weights_files.read_checkpoint(path)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
def test_torchvision_files_load(tmp_path: Path, prefix: str, wrap) -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.35).eval()
    torch.save(wrap({prefix + name: value for name, value in theirs.state_dict().items()}), tmp_path / "w.pth")
    ours = small_network().eval()
    network_weights.load_weights(
        ours, network_weights.extract_weights(weights_files.read_checkpoint(tmp_path / "w.pth"), "w.pth"), "w.pth"
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))


def test_averaged_weights_are_preferred() -> None:
    raw, averaged = small_network().state_dict(), small_network().state_dict()
    assert (
        network_weights.extract_weights({"state_dict": raw, "ema_state_dict": averaged}, "x").keys() == averaged.keys()
    )
    found = network_weights.extract_weights({"state_dict": raw, "ema_state_dict": averaged}, "x")
    assert found["features.0.0.weight"] is averaged["features.0.0.weight"]


def rename_first(weights: dict) -> dict:
    return {("stem" if name == "features.0.0.weight" else name): value for name, value in weights.items()}


def drop_last(weights: dict) -> dict:
    return dict(list(weights.items())[:-1])


def make_integer(weights: dict) -> dict:
    return weights | {"classifier.1.bias": torch.zeros(3, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_first, r"missing \['features.0.0.weight'\], unknown \['stem'\]"),
        (drop_last, r"missing \['classifier.1.bias'\], unknown \[\]"),
        (lambda w: w | {"extra": torch.zeros(1)}, r"missing \[\], unknown \['extra'\]"),
        (lambda w: w | {"classifier.1.bias": torch.full((3,), math.nan)}, r"classifier.1.bias has values that are not"),
        (make_integer, r"classifier.1.bias is torch.int64 \[3\], the network has torch.float32 \[3\]"),
        (lambda w: MobileNetV2(3, width_mult=0.5).state_dict(), r"is torch.float32 \[.*check model_width_mult"),
        (
            lambda w: small_network(4).state_dict(),
            r"classifier.1.weight .* check model_width_mult and model_num_classes",
        ),
    ],
)
def test_loading_is_strict_and_changes_nothing(change, message: str) -> None:
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=f"w.pth: .*{message}"):
        network_weights.load_weights(network, change(small_network().state_dict()), "w.pth")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_fine_tuning_keeps_a_fresh_classifier_for_other_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained, network = small_network(7), small_network(3)
    own = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    line = network_weights.load_pretrained_weights(network, config, list("abc"))
    assert line.endswith("the classifier starts fresh: 3 classes, not 7.")
    for name, value in network.state_dict().items():
        expected = own if name.startswith("classifier") else trained.state_dict()
        assert torch.equal(value, expected[name])


def test_fine_tuning_on_as_many_classes_takes_the_classifier(tmp_path: Path) -> None:
    trained, network = small_network(), small_network()
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    assert network_weights.load_pretrained_weights(network, config, list("abc")).endswith("classifier included.")
    assert torch.equal(network.classifier[1].weight, trained.classifier[1].weight)


def test_fine_tuning_from_another_width_is_refused(tmp_path: Path) -> None:
    torch.save(MobileNetV2(7, width_mult=0.5).state_dict(), tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    with pytest.raises(ValueError, match="check model_width_mult"):
        network_weights.load_pretrained_weights(small_network(), config, list("abc"))


def test_classifier_rows_follow_the_names_of_the_classes(tmp_path: Path) -> None:
    """Numbered folders once sorted as text: the row of each class is the one that was trained for it."""
    trained, network, images = small_network().eval(), small_network().eval(), torch.randn(2, 3, 32, 32)
    torch.save({"state_dict": trained.state_dict(), "class_names": ["1", "10", "2"]}, tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    line = network_weights.load_pretrained_weights(network, config, ["1", "2", "10"]).splitlines()[1]
    assert line == "They were trained with these classes in another order; the classifier's rows were matched by name."
    assert torch.equal(network(images), trained(images)[:, [0, 2, 1]])


def test_classes_of_other_names_are_told(tmp_path: Path) -> None:
    trained, network = small_network(), small_network()
    torch.save({"state_dict": trained.state_dict(), "class_names": ["ant", "bee", "cat"]}, tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    line = network_weights.load_pretrained_weights(network, config, ["ant", "cow", "dog"]).splitlines()[1]
    assert line == (
        "They were trained with other classes: the classifier's row of 'cow' was that of 'bee', 2 of 3 differ."
    )
    assert torch.equal(network.classifier[1].weight, trained.classifier[1].weight)
    assert "\n" not in network_weights.load_pretrained_weights(small_network(), config, ["ant", "bee", "cat"])
    fresh = network_weights.load_pretrained_weights(small_network(2), config, ["cow", "dog"])
    assert fresh.endswith("the classifier starts fresh: 2 classes, not 3.")


@pytest.mark.parametrize("size", [64, 224])
def test_another_image_size_than_in_training_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    path = tmp_path / "w.pth"
    config = config_with(model_weights_path=path, model_num_classes=3, model_width_mult=0.35, image_size=224)
    record = {"state_dict": small_network().state_dict(), "image_size": size}
    for content in (record, {"state_dict": record["state_dict"], "config": {"image_size": size}}):
        torch.save(content, path)
        network_weights.load_trained_network(small_network(), config)
        line = (
            f"`{path}` was trained with image_size = 64; config.py line 26 has 224: the answers differ from those at "
        )
        printed = capsys.readouterr().out
        assert printed.startswith(line) if size == 64 else printed == ""
    torch.save(record | {"image_size": (224, 224)}, path)  # of another project
    network_weights.load_trained_network(small_network(), config)
    assert capsys.readouterr().out == ""


# Batch-norm that was folded into the convolutions


def batch_norm(mean: float, var: float, weight: float, bias: float) -> dict[str, torch.Tensor]:
    values = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    return {f"n.{name}": torch.tensor([value, value]) for name, value in values.items()}


@pytest.mark.parametrize(
    ("weights", "is_folded"),
    [
        (batch_norm(0, 1, (1 + 1e-5) ** 0.5, 0.3), True),  # as in mobilenet_v2-imagenet_1k-tflite.pth
        (batch_norm(0, 1 - 1e-5, 1, 0.3), True),
        (batch_norm(0, 1 - 1e-3, 1, 0.3), True),  # the eps of TensorFlow
        (batch_norm(-0.3, 1, 1, 0), True),  # the shift in the mean
        (batch_norm(0, 1, 1, 0), False),  # torch's initialisation
        (batch_norm(0.1, 0.95, 1, 0.1), False),
        (batch_norm(0, 1, 1, 0.3) | {"n.running_var": torch.tensor([1.0, 0.98])}, False),
    ],
)
def test_folded_layers_by_hand(weights: dict, is_folded: bool) -> None:
    assert network_weights.folded_layers(weights) == ["n"] * is_folded


def test_a_network_that_was_never_trained_is_not_folded(tmp_path: Path) -> None:
    torch.save(torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.35).state_dict(), tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    assert "classifier included" in network_weights.load_pretrained_weights(small_network(), config, list("abc"))


# Files of other programs


def script_archive(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # it is deprecated
        torch.jit.script(torch.nn.Linear(1, 1)).save(path)


def exported_program(path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(1, 1),)), path)


def zip_with(name: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"content")

    return write


PYTORCH = "these scripts read PyTorch's files and .safetensors; save or export it as one of them"
FOREIGN = {  # what writes them, or how their formats say that they begin
    "safetensors": (
        lambda p: safetensors.torch.save_file(small_network().state_dict(), p),
        "a .safetensors file; COMMAND",
    ),
    "script": (script_archive, "a TorchScript archive; COMMAND"),
    "exported": (
        exported_program,
        "a program of torch.export; save the state_dict() of the network that it was made fr",
    ),
    "keras.h5": (
        lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        f"an HDF5 file, as Keras writes; {PYTORCH}",
    ),
    "keras": (zip_with("model.weights.h5"), f"a Keras model; {PYTORCH}"),
    "tflite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(99)), f"a TFLite model; {PYTORCH}"),
    "onnx": (lambda p: p.write_bytes(b"\x08\x0a\x12\x07pytorch" + bytes(99)), f"an ONNX model; {PYTORCH}"),
    "web": (
        lambda p: p.write_bytes(b"\n<!DOCTYPE html>\n<html>"),
        "a web page, not the file; download the file itself",
    ),
    "lfs": (
        lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid "),
        "a pointer of Git LFS, not the",
    ),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"content")), "a compressed file; if the weights are in it, unpack"),
    "zip": (zip_with("best.pth"), "a zip file of other things; if the weights are in it, unpack them"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write, words = FOREIGN[name]
    monkeypatch.chdir(tmp_path)
    write(Path("my net.pt"))
    with pytest.raises(ValueError) as caught:
        weights_files.read_checkpoint("my net.pt")
    command = "`python3 scripts/convert_weights.py 'my net.pt' 'results/pretrained_models/my net.pth.tar'` reads it"
    assert str(caught.value).startswith(f"my net.pt: {words.replace('COMMAND', command)}")


@pytest.mark.parametrize(
    "checkpoint",
    [
        lambda w: {"model": w, "epoch": 3},
        lambda w: {"model_state_dict": w, "optimizer_state_dict": {}},
        lambda w: {"state_dict": {f"model.{name}": value for name, value in w.items()}},  # Lightning
        lambda w: {"model": {"state_dict": w}},
        lambda w: w | {"epoch": 3},
        lambda w: w | {"n_averaged": torch.tensor(7)},
        lambda w: timm.create_model("mobilenetv2_035", pretrained=False, num_classes=3).state_dict(),
        lambda w: w | {"features.0.0.bias": torch.zeros(16)},  # batch-norm folded
    ],
)
def test_weights_as_other_projects_save_them_name_the_script_that_reads_them(tmp_path: Path, checkpoint) -> None:
    path, target = tmp_path / "w.pth", "results/pretrained_models/w.pth.tar"
    torch.save(checkpoint(small_network().state_dict()), path)
    score = config_with(model_weights_path=path, model_width_mult=0.35)
    start = config_with(pretrained_model_weights_path=path, model_width_mult=0.35)
    for load in (
        lambda: network_weights.load_trained_network(small_network(), score),
        lambda: network_weights.load_pretrained_weights(small_network(), start, list("abc")),
    ):
        with pytest.raises(ValueError, match=f"`python3 scripts/convert_weights.py {path} {target}` reads it$"):
            load()


def test_the_file_to_write_is_not_the_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("results/pretrained_models/w.pth.tar")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert f"{path} results/pretrained_models/w-converted.pth.tar`" in weights_files.conversion(path)


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no checkpoint"),
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(path.read_bytes()[:-1000]),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({"state_dict": Payload(path.with_name("executed"))}, path),
    ],
)
def test_damaged_or_hostile_file_is_one_line_and_nothing_executes(tmp_path: Path, write) -> None:
    path = tmp_path / "w.pth.tar"
    torch.save(small_network().state_dict(), path)
    write(path)
    with pytest.raises(ValueError, match=r"w.pth.tar: (damaged or not|holds a list)") as caught:
        weights_files.read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_dictionary_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="w.pth: no state_dict of tensors in it"):
        network_weights.extract_weights({"epoch": 3}, "w.pth")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth: no such file; train first"):
        weights_files.read_checkpoint(tmp_path / "nowhere.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch 2.11's own use
def test_graph_that_cannot_be_compiled_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compile_small_graphs(graph: torch.fx.GraphModule, *inputs: object, **options: object) -> torch.fx.GraphModule:
        if len(graph.graph.nodes) > 10:
            raise RuntimeError("too large\nsecond line")
        return graph

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", compile_small_graphs)
    network, images = small_network().eval(), torch.randn(2, 3, 32, 32)
    expected = network(images)
    names = list(network.state_dict())
    utils.compile_network(network, CPU)
    assert capsys.readouterr().out == ""
    assert torch.equal(network(images), expected)
    line = "compile_model: torch.compile does not work here (too large); continuing without.\n"
    assert capsys.readouterr().out == line
    assert list(network.state_dict()) == names
