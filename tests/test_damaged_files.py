# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile files at every place that loads one: one line that names the file, nothing written or run."""

import io
import itertools
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import ROOT, Project
from torch import Tensor, nn

from core import network_weights, weights_files
from model import MobileNetV2

Checkpoint = dict[str, Any]


def saved(content: object, **options: Any) -> bytes:
    """What torch.save() writes."""
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # that sparse and quantized tensors are old or new
        torch.save(content, file, **options)
    return file.getvalue()


# Every byte of a small file


class SmallModule(nn.Module):
    """A float tensor, an integer without dimensions, and few bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(3.0))
        self.register_buffer("batches", torch.tensor(7))


@pytest.fixture(scope="module")
def small_file() -> bytes:
    """A checkpoint with a value of every kind that ours have."""
    return saved({"state_dict": SmallModule().state_dict(), "epoch": 3, "best_acc1": 12.5, "names": ["a", None, True]})


def content_of(path: Path, module: SmallModule) -> tuple[object, list[bytes]]:
    """What a reader gets from a file: all values, and those of a network that takes its weights; equal if the same."""
    checkpoint = weights_files.read_checkpoint(path)
    module.load_state_dict({"weight": torch.zeros(3), "batches": torch.tensor(0)})
    network_weights.load_weights(module, network_weights.extract_weights(checkpoint, path), path)
    weights = checkpoint.pop("state_dict")
    kinds = [(name, tensor.dtype, tensor.shape) for name, tensor in weights.items()]
    tensors = (*weights.values(), *module.state_dict().values())
    return repr((checkpoint, kinds)), [tensor.numpy().tobytes() for tensor in tensors]


def record_bytes(content: bytes) -> set[int]:
    """The positions of the records of a zip file, which hold all that was saved."""
    positions: set[int] = set()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for record in archive.infolist():
            name_length, extra_length = struct.unpack_from("<HH", content, record.header_offset + 26)
            start = record.header_offset + 30 + name_length + extra_length
            positions |= set(range(start, start + record.file_size))
    return positions


def test_every_flipped_bit_is_noticed_or_changes_nothing(small_file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pth.tar"
    path.write_bytes(small_file)
    module, inside = SmallModule(), record_bytes(small_file)
    original = content_of(path, module)
    assert len(inside) > 400
    outcomes: Counter[tuple[str, bool]] = Counter()
    with path.open("r+b", buffering=0) as file:
        for position, bit in itertools.product(range(len(small_file)), range(8)):
            os.pwrite(file.fileno(), bytes([small_file[position] ^ 1 << bit]), position)
            try:
                is_same = content_of(path, module) == original
            except ValueError as error:
                assert str(error).startswith(f"{path}: ")
                assert str(error).isprintable()
                outcome = "refused"
            else:
                assert is_same, f"bit {bit} of byte {position}: other content"
                outcome = "same"
            outcomes[outcome, position in inside] += 1
            os.pwrite(file.fileno(), small_file[position : position + 1], position)
    # In the records everything is noticed; the rest is lengths, dates and padding of the zip file.
    assert outcomes["refused", True] == 8 * len(inside)
    assert outcomes["same", False] > 0


def test_a_cut_at_every_length_is_noticed(small_file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pth.tar"
    for length in range(len(small_file)):
        path.write_bytes(small_file[:length])
        with pytest.raises(ValueError, match=rf"^{path}: damaged or not a PyTorch checkpoint \([ -~]+\); get or save"):
            weights_files.read_checkpoint(path)


def test_torch_itself_does_not_notice(small_file: bytes) -> None:
    """Why weights_files.verified_copy() is there; when this fails, it may not be needed any more."""
    position = small_file.index(struct.pack("<3f", 0, 1, 2))
    flipped = bytearray(small_file)
    flipped[position + 3] ^= 64
    assert torch.load(io.BytesIO(flipped), weights_only=True)["state_dict"]["weight"].tolist() == [2.0, 1.0, 2.0]


# Files that nobody can use


class Payload:
    """Unpickling it would create a file, `executed`, where the program runs."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


def repacked(content: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file with changed records and right checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return file.getvalue()


def with_pickle(code: bytes) -> bytes:
    """A zip file like that of torch.save(), with the given pickle in it."""
    return repacked(saved({}), lambda name, record: code if name.endswith("data.pkl") else record)


def flip_in_a_tensor(content: bytes) -> bytes:
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    return bytes(flipped)


def claim_more_values(content: bytes) -> bytes:
    """The storage of a tensor of 16 values is said to have 2**40."""
    return repacked(content, lambda _, record: record.replace(b"K\x10t", b"\x8a\x06" + bytes(5) + b"\x01t", 1))


def claim_more_bytes(content: bytes) -> bytes:
    """The table of contents gives a record nearly 4 GB."""
    entry = content.index(b"PK\x01\x02")
    size = struct.pack("<II", 2**32 - 16, 2**32 - 16)
    return content[: entry + 20] + size + content[entry + 28 :]


def with_two_of_a_name(content: bytes) -> bytes:
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(archive.namelist()[0], b"another")
    return file.getvalue()


def zip_of_a_text() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    return file.getvalue()


def tar_of_a_text() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("readme.txt"))
    return file.getvalue()


def bomb() -> bytes:
    """50 MB of zeros in 50 kB."""
    return repacked(saved({"a": 1}), lambda _, record: record + bytes(50_000_000 // 6), zipfile.ZIP_DEFLATED)


def torchscript(content: bytes) -> bytes:
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(archive.namelist()[0].replace("data.pkl", "constants.pkl"), b"")
    return file.getvalue()


def holding_itself() -> Checkpoint:
    checkpoint: Checkpoint = {}
    checkpoint["state_dict"] = checkpoint
    return checkpoint


def every_key(change: Callable[[Tensor], Tensor]) -> Callable[[Checkpoint], bytes]:
    return lambda good: saved(with_weights(good, lambda w: w | {"classifier.1.bias": change(w["classifier.1.bias"])}))


def with_weights(good: Checkpoint, change: Callable[[dict], Any]) -> Checkpoint:
    return good | {name: change(good[name]) for name in ("state_dict", "ema_state_dict")}


ASKS_FOR_16_TB = b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85Rs."
BEGIN_DICT, END_DICT = b"\x80\x02}X\x01\x00\x00\x00a", b"s."
OLD_FORMAT = {"_use_new_zipfile_serialization": False}

# From a good checkpoint of train.py to the bytes of a file that read_checkpoint() refuses.
UNREADABLE: dict[str, Callable[[Checkpoint], bytes]] = {
    "empty": lambda good: b"",
    "text": lambda good: b"no checkpoint\n",
    "cut": lambda good: saved(good)[:100_000],
    "cut_by_1": lambda good: saved(good)[:-1],
    "flipped": lambda good: flip_in_a_tensor(saved(good)),
    "zip_of_a_text": lambda good: zip_of_a_text(),
    "tar": lambda good: tar_of_a_text(),
    "compressed": lambda good: repacked(saved(good), lambda _, record: record, zipfile.ZIP_DEFLATED),
    "bomb": lambda good: bomb(),
    "claims_bytes": lambda good: claim_more_bytes(saved(good)),
    "claims_values": lambda good: claim_more_values(saved(good | {"more": torch.arange(16.0)})),
    "two_of_a_name": lambda good: with_two_of_a_name(saved(good)),
    "torchscript": lambda good: torchscript(saved(good)),
    "torchscript_payload": lambda good: torchscript(saved(good | {"more": Payload()})),
    "torchscript_module": lambda good: torchscript(with_pickle(b"\x80\x02c__torch__\nNet\n)\x81K\x05b.")),
    "payload": lambda good: saved(good | {"more": Payload()}),
    "payload_old": lambda good: saved(good | {"more": Payload()}, **OLD_FORMAT),
    "payload_pickle": lambda good: pickle.dumps(Payload(), 2),
    "escapes": lambda good: with_pickle(b"\x80\x02cos\n\x1b[2J" + b"x" * 5000 + b"\n."),
    "cut_old": lambda good: saved(good, **OLD_FORMAT)[:-1],
    "claims_old": lambda good: saved({"a": torch.arange(16.0)}, **OLD_FORMAT).replace(b"K\x10\x85", b"M\x00\x40\x85"),
    "list": lambda good: saved([good]),
    "holds_itself": lambda good: saved(holding_itself()),
    "deep": lambda good: with_pickle(BEGIN_DICT + b"]" * 100_000 + b"a" * 99_999 + END_DICT),
    "asks_for_memory": lambda good: with_pickle(ASKS_FOR_16_TB),
    "sparse": every_key(lambda bias: bias.to_sparse()),
    "quantized": every_key(lambda bias: quantized(bias)),
    "complex": every_key(lambda bias: bias.to(torch.complex64)),
    "meta": every_key(lambda bias: bias.to("meta")),
    "repeated": every_key(lambda bias: bias[:1].expand(10**15)),
}


def quantized(tensor: Tensor) -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(tensor, 1.0, 0, torch.qint8)


def changed(name: str, value: object) -> Callable[[Checkpoint], bytes]:
    return lambda good: saved(with_weights(good, lambda weights: weights | {name: value}))


def without_last(weights: dict) -> dict:
    return dict(list(weights.items())[:-1])


# Files that can be read, and whose weights no network takes.
UNFIT: dict[str, Callable[[Checkpoint], bytes]] = {
    "missing": lambda good: saved(with_weights(good, without_last)),
    "extra": changed("features.3.gamma", torch.zeros(3)),
    "misshapen": changed("features.0.0.weight", torch.zeros(16, 3, 5, 5)),
    "transposed": every_key(lambda bias: bias[None]),
    "scalar": changed("classifier.1.weight", torch.tensor(1.0)),
    "integers": every_key(lambda bias: bias.to(torch.int64)),
    "booleans": every_key(lambda bias: bias > 0),
    "a_number": changed("classifier.1.bias", 5),
    "a_string": changed("classifier.1.bias", "zero"),
    "none": changed("classifier.1.bias", None),
    "a_list": changed("classifier.1.bias", [[[[]]]]),
    "nan": changed("features.0.1.running_mean", torch.full((16,), torch.nan)),
    "infinite": changed("features.0.1.weight", torch.full((16,), -torch.inf)),
    "overflows": changed("features.0.1.bias", torch.full((16,), 1e300, dtype=torch.float64)),
    "negative_variance": changed("features.0.1.running_var", torch.full((16,), -1.0)),
    "no_weights": lambda good: saved(with_weights(good, lambda _: {})),
    "weights_none": lambda good: saved(with_weights(good, lambda _: None)),
    "weights_true": lambda good: saved(with_weights(good, lambda _: True)),
    "numbers_as_names": lambda good: saved(with_weights(good, lambda w: dict(enumerate(w.values())))),
    "tuples_as_names": lambda good: saved(with_weights(good, lambda w: {(name, ()): w[name] for name in w})),
    "long_name": changed("x" * 100_000 + ".weight", torch.zeros(1)),
    "escape_in_a_name": changed("\x1b[2J\n.weight", torch.zeros(1)),
    "many_classes": changed("classifier.1.weight", torch.zeros(10**6, 1)),
}


def with_momentum(change: Callable[[dict[int, dict]], dict]) -> Callable[[Checkpoint], bytes]:
    return lambda good: saved(good | {"optimizer": good["optimizer"] | {"state": change(good["optimizer"]["state"])}})


def momentum(number: int, change: Callable[[Tensor], object]) -> Callable[[Checkpoint], bytes]:
    """Another value for one of the optimizer's buffers."""
    return with_momentum(lambda state: state | {number: {"momentum_buffer": change(state[number]["momentum_buffer"])}})


def with_record(**values: object) -> Callable[[Checkpoint], bytes]:
    """Other values in the record of config.py."""
    return lambda good: saved(good | {"config": good["config"] | values})


SCALER = {"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}  # without its count
# Files whose weights are good, and whose state no training run can have.
UNTRAINABLE: dict[str, Callable[[Checkpoint], bytes]] = {
    **{
        f"{key}_{place}": lambda good, key=key, value=value: saved(good | {key: value})
        for key, values in {
            "best_acc1": (float("nan"), float("inf"), 1e308, -1.0, True, "5.0", None, [5.0]),
            "epoch": (-1, True, 3.0, "3", 10**30, 10**5000, None),
            "position": (-1, 10**30, False, None),
            "epoch_sums": ([[[]]] * 4, [float("nan")] * 4, [], ["0"] * 4, 5),
            "ema_updates": (-1, 10**30, 1.5),
            "class_names": (["blue", "red", "green"], [1, 2, 3], None),
            "optimizer": ({}, {"state": {}}, [], None),
            "scheduler": (None, 3),  # what is in it is counted anew
            "scaler": (None, 5, SCALER | {"_growth_tracker": -1}, SCALER),
            "config": (None, []),
        }.items()
        for place, value in enumerate(values)
    },
    "record_of_tensors": with_record(seed=torch.zeros(3)),
    "record_of_strings": with_record(batch_size="x", num_processes="y"),
    "record_without_end": with_record(num_images=10**5000),
    "position_beyond_the_epoch": lambda good: saved(good | {"position": 10**9, "epoch_sums": [1.0, 0, 0, 1e9, 0]}),
    "position_without_images": lambda good: saved(good | {"position": 2, "epoch_sums": [0.0] * 5}),
    "momentum_nan": momentum(3, lambda buffer: torch.full_like(buffer, torch.nan)),
    "momentum_misshapen": momentum(3, lambda buffer: buffer[:1]),
    "momentum_number": momentum(3, lambda buffer: 5),
    "momentum_missing": with_momentum(lambda state: state | {3: {}}),
    "momentum_of_none": with_momentum(lambda state: state | {10**6: state[0]}),
}

NOT_RESUMABLE = UNREADABLE | UNFIT | UNTRAINABLE

# Runs every loader in one process on each file of the folder `files`; what a user sees of each goes to results.json.
DRIVER = """
import contextlib, importlib.util, io, json, os, sys, warnings
from pathlib import Path

warnings.simplefilter("default")  # no error: it would be a second line
sys.path.append(sys.argv[1])

def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def settings(mode, **values):
    os.environ["MODE"] = mode
    config = load("config.py", "config")
    vars(config).update(values)
    return config

import convert_weights, inference, train, unfold_batch_norm, utils
tester = load("test.py", "tester")

def command(script, *words):
    sys.argv = [script.__name__, *words]
    script.main()

LOADERS = {
    "resume": lambda path: train.main(settings("train", resume=path)),
    "pretrained": lambda path: train.main(
        settings("train", exp_name=Path(path).name, epochs=1, pretrained_model_weights_path=path)
    ),
    "test": lambda path: tester.main(settings("test", model_weights_path=path)),
    "inference": lambda path: inference.main(settings("test", model_weights_path=path), ["data/Colours/valid/red"]),
    "convert": lambda path: command(convert_weights, path, path + ".converted"),
    "unfold": lambda path: command(unfold_batch_norm, path, path + ".unfolded", "--images", "data/Colours/valid",
                                   "--width-mult", "0.35", "--image-size", "32"),
}
results = {}
for path in sorted(map(str, Path("files").iterdir())):
    for name, loader in LOADERS.items():
        errors, status = io.StringIO(), 0
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                with utils.user_errors():
                    loader(path)
            except SystemExit as end:
                status = end.code
        results[f"{name} {path}"] = [status, errors.getvalue()]
Path("results.json").write_text(json.dumps(results))
"""


def run_all_loaders(project: Project) -> dict[str, list]:
    """What status and stderr each loader ends with on each file, by "loader files/name"."""
    driver = project.root / "driver.py"
    driver.write_text(DRIVER)
    done = project.run(str(driver), str(ROOT / "scripts"))
    driver.unlink()
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads((project.root / "results.json").read_text())
    (project.root / "results.json").unlink()
    return results


def good_checkpoint(project: Project) -> Checkpoint:
    path = project.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar"
    return torch.load(path, weights_only=True)


def bad_files(good: Checkpoint, makers: dict[str, Callable]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each. Those that cannot be read have few tensors, which would not do either: less to read."""
    few = with_weights(good, lambda weights: dict(list(weights.items())[-8:])) | {"optimizer": {}}
    for name, make in makers.items():
        yield name, make(few if name in UNREADABLE else good)


# Not that weights are missing, nor of other shapes.
WORDS_FOR_UNREADABLE = re.compile(
    "damaged or not a PyTorch checkpoint|damaged or no module of TorchScript|a TorchScript archive|a zip file of other|"
    "holds a list"
)
LOADER_NAMES = ("resume", "pretrained", "test", "inference", "convert", "unfold")


def test_no_loader_takes_a_bad_file(trained_copy: Project) -> None:
    good = good_checkpoint(trained_copy)
    files = trained_copy.root / "files"
    files.mkdir()
    for name, content in bad_files(good, UNREADABLE | UNFIT):
        (files / name).write_bytes(content)
    (files / "folder").mkdir()
    os.mkfifo(files / "pipe")
    (files / "dangling").symlink_to("nowhere")
    trained_copy.set(num_workers=0)
    before = trained_copy.snapshot()
    results = run_all_loaders(trained_copy)
    assert len(results) == len(LOADER_NAMES) * len(list(files.iterdir()))
    for case, (status, line) in results.items():
        assert status == 2, case
        assert line.startswith(f"{case.split()[1]}: "), line
        assert line.endswith("\n") and line[:-1].isprintable(), case  # one line
        assert len(line) < 800, case
        assert WORDS_FOR_UNREADABLE.match(line.partition(": ")[2]) or Path(case.split()[1]).name not in UNREADABLE, line
    assert trained_copy.snapshot() == before
    assert not (trained_copy.root / "executed").exists()


def test_the_payload_would_run(tmp_path: Path) -> None:
    """Or the tests with it would show nothing: here pickle itself reads it, in a process and a folder of their own."""
    program = f"import pickle; pickle.loads({pickle.dumps(Payload(), 2)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert (tmp_path / "executed").exists()


def hide_methods(good: Checkpoint) -> bytes:
    """The same values in dictionaries and tensors whose methods are hidden by attributes, as only an attacker would."""
    hidden: Checkpoint = {}
    for key in ("state_dict", "ema_state_dict"):
        hidden[key] = OrderedDict(good[key])
        hidden[key].values = hidden[key].get = hidden[key].keys = hidden[key].itemz = "hidden"
        hidden[key]["classifier.1.bias"].isfinite = "hidden"
    content = saved(good | hidden | {"more": doubled(40)})
    return repacked(content, lambda _, record: record.replace(b"itemz", b"items"))  # pickle itself needs the method


def doubled(times: int) -> list:
    """A list of few bytes with 2**times elements in it."""
    value: list = []
    for _ in range(times):
        value = [value, value]
    return value


def test_all_loaders_take_good_files(trained_copy: Project) -> None:
    trained_copy.set(num_workers=0)
    files = trained_copy.root / "files"
    files.mkdir()
    good = good_checkpoint(trained_copy)
    (files / "good").write_bytes(saved(good))
    (files / "hidden").write_bytes(hide_methods(good))
    expected_ends = {}
    for name in ("good", "hidden"):
        expected_ends |= {f"{loader} files/{name}": [0, ""] for loader in LOADER_NAMES}
        # it is read to its end, and found to need no unfolding
        not_folded = f"files/{name}: its batch-norm is not folded; train from it as it is\n"
        expected_ends[f"unfold files/{name}"] = [2, not_folded]
    assert run_all_loaders(trained_copy) == expected_ends
    expected = good_checkpoint(trained_copy)["ema_state_dict"]
    for name in ("good", "hidden"):
        converted = torch.load(files / f"{name}.converted", weights_only=True)["state_dict"]
        assert all(torch.equal(tensor, expected[key]) for key, tensor in converted.items())


def test_auto_resume_names_every_bad_file_and_takes_the_newest_good_one(trained_copy: Project) -> None:
    good = good_checkpoint(trained_copy)
    samples = trained_copy.root / "samples/MobileNetV2-Colours"
    for epoch, (_, content) in enumerate(bad_files(good, NOT_RESUMABLE), start=7):
        (samples / f"epoch_{epoch}.pth.tar").write_bytes(content)
    last = 7 + len(NOT_RESUMABLE)
    (samples / f"epoch_{last}.pth.tar").mkdir()
    before = trained_copy.snapshot()
    trained_copy.set(resume="auto")
    lines = trained_copy.run_well("train.py").splitlines()
    named = [int(found[1]) for line in lines if (found := re.match(r"Resume: samples/\S+/epoch_(\d+).pth.tar: ", line))]
    assert named == list(range(last, 6, -1))
    assert any(re.match(r"`samples/\S+/epoch_6.pth.tar` has finished all 6 epochs", line) for line in lines)
    config = str(trained_copy.root / "config.py")
    assert trained_copy.snapshot() | {config: 0} == before | {config: 0}


# What a file says beside its weights


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("model_width_mult", value) for value in (True, "0.35", None, float("nan"), 0, 10**400, [0.35])),
        *(("model_padding", value) for value in ("valid", None, ["same"])),
        *(("model_batch_norm_eps", value) for value in (0, -1e-3, float("nan"), "1e-3")),
        *(("model_mean_parameters", value) for value in ([0.5] * 2, [float("nan")] * 3, ["0.5"] * 3, 0.5, [[[]]] * 3)),
        ("model_std_parameters", [0.0, 1.0, 1.0]),
        ("model_std_parameters", torch.ones(3)),
    ],
)
@pytest.mark.parametrize("wrap", [dict, lambda record: {"config": record}])
def test_impossible_records_are_refused(tmp_path: Path, name: str, value: object, wrap: Callable) -> None:
    path = tmp_path / "w.pth.tar"
    network = MobileNetV2(3, 0.35)
    torch.save({"state_dict": network.state_dict()} | wrap({name: value}), path)
    means = {"model_mean_parameters": [0.5] * 3, "model_std_parameters": [1.0] * 3, "image_size": 32}
    definition = {"model_padding": "symmetric", "model_batch_norm_eps": 1e-5}
    config = SimpleNamespace(model_weights_path=str(path), model_width_mult=0.35, model_num_classes=3)
    vars(config).update(means | definition)
    with pytest.raises(ValueError, match=f"^{path}: its {name} cannot be: expected .+; get or save it again|the file"):
        network_weights.load_trained_network(network, config)


# Writing


# No file of this process may have more than 3 MB: writing then fails as on a full disk, for any user.
ON_A_FULL_DISK = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
runpy.run_path("train.py", run_name="__main__")
"""


def test_training_on_a_full_disk_names_the_file_and_the_last_good_checkpoint_stays(trained_copy: Project) -> None:
    samples = trained_copy.root / "samples/MobileNetV2-Colours"
    before = {path.name: path.read_bytes() for path in samples.iterdir()}
    assert len(before["epoch_6.pth.tar"]) > 3_000_000
    trained_copy.set(epochs=7, resume="auto", num_workers=0)
    (trained_copy.root / "full.py").write_text(ON_A_FULL_DISK)
    done = trained_copy.run("full.py")
    assert (done.returncode, done.stderr) == (
        2,
        "samples/MobileNetV2-Colours/epoch_7.pth.tar: File too large; make room for it; the files before it stay\n",
    )
    assert {path.name: path.read_bytes() for path in samples.iterdir()} == before
