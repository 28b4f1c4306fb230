# SPDX-License-Identifier: Apache-2.0
"""scripts/convert_weights.py on the networks of timm and torchvision, and on the names that other projects publish."""

import argparse
import copy
import io
import itertools
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from command_runs import run_command
from conftest import ROOT, Project
from conversion_runs import Runner
from foreign_networks import (
    NAMINGS,
    TIMM_WIDTHS,
    Naming,
    Weights,
    d_li14,
    keras,
    logits_of,
    randomize,
    rename,
    tonylins,
    torchvision_network,
)
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel

from core import network_weights
from model import MobileNetV2


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's network of width 0.35, where more layers have equal shapes than at larger widths."""
    return torchvision_network()


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> Runner:
    return Runner(monkeypatch, capsys, tmp_path)


# The networks of other packages


@pytest.mark.parametrize("name", TIMM_WIDTHS)
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_timm(runner: Runner, name: str, kind: str) -> None:
    theirs = randomize(timm.create_model(f"mobilenetv2_{name}", pretrained=False, num_classes=11))
    if kind == "safetensors":
        source = runner.folder / "model.safetensors"
        safetensors.torch.save_file(theirs.state_dict(), source)
        printed = runner.run(source=source)
    else:
        printed = runner.convert(theirs.state_dict())
    width = TIMM_WIDTHS[name]
    assert f"MobileNetV2 of width {width}, 11 classes; 314 tensors of 105 layers." in printed
    assert torch.equal(logits_of(runner.network(11, width)), logits_of(theirs))


@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
def test_torchvision(runner: Runner, width: float) -> None:
    theirs = torchvision_network(5, width)
    printed = runner.convert(theirs.state_dict())
    assert f"width {width}, 5 classes" in printed
    assert torch.equal(logits_of(runner.network(5, width)), logits_of(theirs))


@pytest.mark.parametrize("name", ["110d", "120d"])
def test_deeper_networks_of_timm_are_refused(runner: Runner, name: str) -> None:
    weights = timm.create_model(f"mobilenetv2_{name}", pretrained=False).state_dict()
    message = r"the file has convolution (\S+) (\[.*\]) where the network has convolution features\.\S+ \[.*\]; this"
    theirs = re.search(message, runner.refuses(weights))
    assert str(list(weights[f"{theirs[1]}.weight"].shape)) == theirs[2]


# The names of other projects: facts about their published files


@pytest.mark.parametrize("naming", [*NAMINGS, keras])
def test_names_of_other_projects(runner: Runner, theirs: nn.Module, naming: Naming) -> None:
    printed = runner.convert(rename(theirs.state_dict(), naming))
    assert ("the order in the file decided" in printed) == (naming is keras)
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


def test_old_files_without_batch_counts(runner: Runner, theirs: nn.Module) -> None:
    weights = {name: t for name, t in rename(theirs.state_dict(), d_li14).items() if "num_batches" not in name}
    torch.save(weights, runner.source, _use_new_zipfile_serialization=False)
    assert "no num_batches_tracked; it is 0 now" in runner.run()
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


def test_classifier_as_a_convolution(runner: Runner, theirs: nn.Module) -> None:
    weights = rename(theirs.state_dict(), tonylins)
    weights["classifier.weight"] = weights["classifier.weight"][:, :, None, None]
    assert "classifier.weight, a 1 x 1 convolution [5, 1280, 1, 1], became a linear layer." in runner.convert(weights)
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


# Wrappings


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.backbone."])
def test_prefixes(runner: Runner, theirs: nn.Module, prefix: str) -> None:
    runner.convert({prefix + name: tensor for name, tensor in theirs.state_dict().items()})
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


@pytest.mark.parametrize("key", ["state_dict", "model", "model_ema", "state_dict_ema", "model_state_dict", "my_net"])
def test_wrapped_in_a_dictionary(runner: Runner, theirs: nn.Module, key: str) -> None:
    printed = runner.convert({"epoch": 3, "arch": "mobilenet_v2", "optimizer": {"state": {}}, key: theirs.state_dict()})
    assert f"The weights are those in `{key}`." in printed
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


def test_training_files_of_torchvision_with_their_options(runner: Runner, theirs: nn.Module) -> None:
    options = argparse.Namespace(lr=0.1, model="mobilenet_v2")
    runner.convert({"model": theirs.state_dict(), "optimizer": {}, "epoch": 3, "args": options})
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


def test_a_whole_pickled_network_says_what_to_save(runner: Runner, theirs: nn.Module) -> None:
    torch.save(theirs, runner.source)
    assert "Python objects, which could run code; save the state_dict() of the network" in runner.refusal()


def test_averaged_weights_are_taken_as_torchvision_saves_them(runner: Runner, theirs: nn.Module) -> None:
    average = AveragedModel(theirs, use_buffers=True)
    raw = torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.35)
    printed = runner.convert({"model": raw.state_dict(), "model_ema": average.state_dict(), "epoch": 3})
    assert "`model_ema`" in printed
    first_and_last = "model.features.0.0.weight .. model.classifier.1.bias (314 tensors)"
    assert f"Left out: {first_and_last}, model_ema.n_averaged.\n" in printed
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


def test_nested_wrappings(runner: Runner, theirs: nn.Module) -> None:
    assert "`model.state_dict`" in runner.convert({"model": {"state_dict": nn.DataParallel(theirs).state_dict()}})
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


def prefixed(start: str, weights: Weights) -> Weights:
    return {f"{start}{name}": tensor for name, tensor in weights.items()}


def lightning_file(weights: Weights, **others: Tensor) -> dict:
    """As Lightning's Trainer saves a module whose network is `model`, with metrics and a weighted loss beside it."""
    state = {"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.4.0", "loops": {}, "lr_schedulers": []}
    callbacks = {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}}
    optimizers = [{"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": []}]
    state |= {"callbacks": callbacks, "optimizer_states": optimizers, "hyper_parameters": {"lr": 0.1}}
    return state | {"state_dict": prefixed("model.", weights) | others}


def test_lightning_files_with_metrics_and_a_weighted_loss(runner: Runner, theirs: nn.Module) -> None:
    others = {"val_acc.tp": torch.zeros(5), "confusion.confmat": torch.zeros(5, 5), "criterion.weight": torch.ones(5)}
    printed = runner.convert(lightning_file(theirs.state_dict(), **others))
    names = ", ".join(f"state_dict.{name}" for name in others)
    score = "callbacks.ModelCheckpoint{'monitor': None}.best_model_score"
    assert f"The weights are those in `state_dict`.\nLeft out: {score}, {names}.\n" in printed
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


def test_average_beside_the_raw_weights_is_taken(runner: Runner, theirs: nn.Module) -> None:
    raw = torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.35).state_dict()
    average = prefixed("ema_model.module.", theirs.state_dict())
    printed = runner.convert(lightning_file(raw, **average))
    assert "Left out: " in printed
    assert "state_dict.model.features.0.0.weight .. state_dict.model.classifier.1.bias (314 tensors).\n" in printed
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


@pytest.mark.parametrize(
    "pair",
    [
        lambda w: prefixed("student.", w) | prefixed("teacher.", w),
        lambda w: w | prefixed("module.", w),
        lambda w: {"student": dict(w), "teacher": dict(w)},
    ],
)
def test_two_networks_of_equal_rank_are_refused(runner: Runner, theirs: nn.Module, pair) -> None:
    line = runner.refuses(pair(theirs.state_dict()))
    found = re.search(r"has two networks, (\S+)\.\.\. and (\S+)\.\.\.; save the state_dict\(\) of the one", line)
    starts = {name.removesuffix("features.0.0") for name in found.groups()}
    assert starts in ({"student.", "teacher."}, {"module.", ""})


# TorchScript


def script_file(network: nn.Module, compile_network: Callable) -> bytes:
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated; files of it are there
        file = io.BytesIO()
        torch.jit.save(compile_network(network), file)
    return file.getvalue()


def traced(network: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(network, torch.zeros(1, 3, 32, 32), check_trace=False)


@pytest.mark.parametrize("compile_network", [torch.jit.script, traced])
def test_torchscript_is_read_without_its_program(runner: Runner, theirs: nn.Module, compile_network: Callable) -> None:
    content = script_file(theirs, compile_network)
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(runner.source, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"no program" if "/code/" in name else source.read(name))
    assert "MobileNetV2 of width 0.35, 5 classes; 314 tensors" in runner.run()
    assert torch.equal(logits_of(runner.network()), logits_of(theirs))


def test_torchscript_of_something_else_is_refused(runner: Runner) -> None:
    runner.source.write_bytes(script_file(nn.Linear(2, 3), torch.jit.script))
    assert "the network has convolution features.0.0" in runner.refusal()


def test_dictionary_that_holds_itself_is_refused(runner: Runner) -> None:
    checkpoint: dict = {}
    checkpoint["state_dict"] = checkpoint
    assert "it is nested too deep, or holds itself" in runner.refuses(checkpoint)


# Folded batch-norm


def fuse(network: nn.Module) -> nn.Module:
    """A copy whose convolutions have a bias in place of batch-norm, by torch's own function."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for (name, layer), (_, following) in itertools.pairwise(list(parent.named_children())):
            if isinstance(following, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(layer, following))
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    return network


def test_fused_convolutions_are_read_for_scoring_and_training_is_told_what_to_do(
    runner: Runner, theirs: nn.Module
) -> None:
    weights = fuse(theirs).state_dict()
    assert len(weights) == 2 * 53
    printed = runner.convert(weights)
    # Pytorch's own fused network differs from it by as much: the sums are rounded elsewhere.
    assert torch.allclose(logits_of(runner.network()), logits_of(theirs), rtol=1e-4, atol=1e-4)
    assert "to fine-tune:" not in printed
    command = rf"python3 scripts/unfold_batch_norm.py {runner.target} results/pretrained_models/target-unfolded.pth.tar"
    assert f"  {command} --images data/NAME/train --image-size 224 --width-mult 0.35 --mean 0.485" in printed
    with pytest.raises(ValueError, match=r"folded into convolutions \(52 layers have variance 1 throughout\)"):
        network_weights.load_pretrained_weights(MobileNetV2(7, 0.35), runner.as_start(), list("abcdefg"))


# Precisions


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_other_precisions_become_float32(runner: Runner, dtype: torch.dtype, kind: str) -> None:
    theirs = torchvision_network().to(dtype)
    source = runner.folder / f"source.{kind}"
    (torch.save if kind == "torch" else safetensors.torch.save_file)(theirs.state_dict(), source)
    assert f"Values in {str(dtype).removeprefix('torch.')} became float32." in runner.run(source=source)
    network = runner.network()
    assert all(torch.equal(t, theirs.state_dict()[n].to(t.dtype)) for n, t in network.state_dict().items())
    assert torch.equal(logits_of(network), logits_of(theirs.float()))


# What is stored beside


def test_description_is_imagenets_or_that_of_the_options(runner: Runner, theirs: nn.Module) -> None:
    runner.convert(theirs.state_dict())
    stored = torch.load(runner.target, weights_only=True)
    assert stored["model_mean_parameters"] == [0.485, 0.456, 0.406]
    assert stored["model_std_parameters"] == [0.229, 0.224, 0.225]
    assert (stored["image_size"], stored["model_width_mult"]) == (224, 0.35)
    assert "class_names" not in stored
    runner.target.unlink()
    printed = runner.run("--mean", 0.5, 0.5, 0.5, "--std", 0.25, 0.25, 0.25, "--image-size", 96)
    stored = torch.load(runner.target, weights_only=True)
    assert (stored["model_mean_parameters"], stored["model_std_parameters"]) == ([0.5] * 3, [0.25] * 3)
    assert stored["image_size"] == 96
    assert "model_mean_parameters = [0.5, 0.5, 0.5]" in printed


def test_printed_lines_are_those_of_config(runner: Runner, theirs: nn.Module) -> None:
    printed = runner.convert(theirs.state_dict())
    lines = (ROOT / "config.py").read_text().splitlines()
    found = re.findall(r"(?m)^  line (\d+): (\w+) = (.+)$", printed)
    assert {name for _, name, _ in found} >= {"model_width_mult", "model_weights_path", "pretrained_model_weights_path"}
    for number, name, _ in found:
        assert lines[int(number) - 1].strip().startswith(f"{name} = ")
    values = {name: json.loads(value) for _, name, value in found}
    assert values["model_width_mult"] == 0.35
    assert values["model_num_classes"] == 5
    assert values["model_weights_path"] == values["pretrained_model_weights_path"] == str(runner.target)


def test_own_files_keep_what_they_say(runner: Runner) -> None:
    network = randomize(MobileNetV2(3, 0.35))
    described = {"model_mean_parameters": [0.1, 0.2, 0.3], "model_std_parameters": [0.4, 0.5, 0.6], "image_size": 32}
    described["apply_orientation"] = True
    runner.convert(described | {"class_names": ["a", "b", "c"], "acc1": 50.0, "state_dict": network.state_dict()})
    stored = torch.load(runner.target, weights_only=True)
    assert {name: stored[name] for name in described} == described
    assert stored["class_names"] == ["a", "b", "c"]
    ours = MobileNetV2(3, 0.35)
    line, *other = network_weights.load_pretrained_weights(ours, runner.as_start(), ["a", "b", "c"]).splitlines()
    assert line.endswith("classifier included.")
    assert other == [
        "They were trained with model_mean_parameters = [0.1, 0.2, 0.3]; config.py line 31 has [0.485, 0.456, 0.406].",
        "They were trained with model_std_parameters = [0.4, 0.5, 0.6]; config.py line 32 has [0.229, 0.224, 0.225].",
        "They were trained with apply_orientation = True; config.py line 99 has False.",
    ]
    assert torch.equal(logits_of(ours.eval()), logits_of(network))


def test_converted_file_is_a_start_for_fine_tuning(runner: Runner, theirs: nn.Module) -> None:
    runner.convert(theirs.state_dict())
    ours = MobileNetV2(7, 0.35)
    assert "7 classes, not 5" in network_weights.load_pretrained_weights(ours, runner.as_start(), list("abcdefg"))
    assert torch.equal(ours.features[17].conv[2].weight, theirs.features[17].conv[2].weight)


# Refusals


def without(weights: Weights, name: str) -> Weights:
    return {key: tensor for key, tensor in weights.items() if key != name}


def with_bias(weights: Weights, values: Tensor) -> Weights:
    return weights | {"features.3.conv.3.bias": values}


def with_norm(name: str) -> Weights:
    """A normalisation without statistics, after the network perhaps."""
    return {f"{name}.weight": torch.ones(3), f"{name}.bias": torch.ones(3)}


def with_classifier(weights: Weights, name: str, weight: Tensor, num_classes: int) -> Weights:
    return weights | {f"{name}.weight": weight, f"{name}.bias": torch.zeros(num_classes)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: without(w, "features.5.conv.3.running_var"), r"'features.5.conv.3' has weight \[16\], bias"),
        (lambda w: without(w, "classifier.1.bias"), r"'classifier.1' has weight \[5, 1280\]: no convolution"),
        (lambda w: dict(list(w.items())[:-2]), r"has nothing left where the network has classifier classifier.1"),
        (lambda w: w | {"head.weight": torch.zeros(3, 8, 1, 1)}, r"also has convolution head \[3, 8, 1, 1\]"),
        (lambda w: with_classifier(w, "auxiliary", torch.zeros(3, 9), 3), r"also has classifier auxiliary \[3, 9\]"),
        (lambda w: with_classifier(w, "classifier.1", torch.zeros(0, 1280), 0), r"'classifier.1' has weight \[0, 1280"),
        (
            lambda w: with_classifier(w, "classifier.1", torch.zeros(1).expand(10**9, 1280), 5),
            "'classifier.1.weight' claims 1280000000000 values and has fewer",
        ),
        (lambda w: w | {"features.3.gamma": torch.zeros(3)}, r"'features.3' has gamma \[3\]: no convolution"),
        (lambda w: w | with_norm("norm"), r"'norm' has weight \[3\], bias"),
        (
            lambda w: with_classifier(prefixed("net.", w), "fc", torch.zeros(3, 5), 3),
            r"also has classifier fc \[3, 5\]",
        ),
        (lambda w: lightning_file(w | with_norm("norm")), r"'model.norm' has weight \[3\], bias"),
        (lambda w: w | {"a." * 1000 + "weight": torch.zeros(1, 1, 1, 1)}, "is too long or unprintable for a name"),
        (lambda w: w | {"\x1b[2J\n.weight": torch.zeros(1, 1, 1, 1)}, r"'\\x1b\[2J\\n.weight'... is too long or unp"),
        (lambda w: with_bias(w, torch.full((8,), torch.nan)), "features.3.conv.3.bias has values that are not finite"),
        (lambda w: with_bias(w, torch.full((8,), -torch.inf)), "values that are not finite"),
        (lambda w: with_bias(w, torch.full((8,), 1e300, dtype=torch.float64)), "values that are not finite"),
        (lambda w: with_bias(w, torch.zeros(8, dtype=torch.int8)), "features.3.conv.3.bias has values of torch.int8"),
        (lambda w: with_bias(w, torch.zeros(8, dtype=torch.complex64)), "sparse, quantized or complex"),
        (lambda w: with_bias(w, torch.zeros(8, device="meta")), "sparse, quantized or complex"),
        (lambda w: {"state_dict": {"epoch": 3}}, "holds no tensors"),
        (lambda w: {"optimizer": {"state": {"weight": torch.ones(3)}}}, "holds no tensors"),
        (lambda w: {}, "holds no tensors"),
        (lambda w: [1, 2], "holds a list"),
    ],
)
def test_what_does_not_fit_is_refused(runner: Runner, theirs: nn.Module, change, message: str) -> None:
    line = runner.refuses(change(theirs.state_dict()))
    assert line.startswith(str(runner.source))
    assert re.search(message, line), line


def test_overflow_in_the_logits_is_refused(runner: Runner, theirs: nn.Module) -> None:
    torch.save(theirs.state_dict() | {"classifier.1.weight": torch.full((5, 1280), 3e38)}, runner.source)
    with pytest.raises(SystemExit):
        runner.run()
    line = f"{runner.source}: its weights give logits that are not finite; get the file again\n"
    assert runner.capsys.readouterr().err == line
    assert not runner.target.exists()


def test_other_networks_are_refused(runner: Runner) -> None:
    line = runner.refuses(torchvision.models.resnet18().state_dict())
    assert "has convolution conv1 [64, 3, 7, 7] where the network has convolution features.0.0 [32, 3, 3, 3]" in line


def test_widths_with_another_rounding_are_refused(runner: Runner) -> None:
    """Width 0.1 with channels rounded to multiples of 4, as d-li14 publishes it."""
    weights = torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.1, round_nearest=4).state_dict()
    assert re.search(r"width 0\.\d+: the file has convolution .* this is another network", runner.refuses(weights))


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def safetensors_header(header: dict | bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def overlapping() -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return safetensors_header({"a.weight": entry, "b.weight": entry}) + bytes(8)


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        *((content, suffix) for content in (b"", b"no weights") for suffix in ("pth", "safetensors")),
        (safetensors_header({}, length=2**60), "safetensors"),
        (safetensors_header({}, length=2**60), "pth"),
        (safetensors_header(b"{" * 100_000), "safetensors"),
        (safetensors_header({"a.weight": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 8]}}), "bin"),
        (overlapping(), "safetensors"),
        ("cut", "pth"),
        ("cut", "safetensors"),
        ("payload", "pth"),
    ],
)
def test_damaged_and_hostile_files_are_refused(runner: Runner, content: bytes | str, suffix: str) -> None:
    source = runner.folder / f"source.{suffix}"
    if content == "payload":
        torch.save({"state_dict": Payload(runner.folder / "executed")}, source)
    elif content == "cut":
        weights = MobileNetV2(2, 0.35).state_dict()
        (torch.save if suffix == "pth" else safetensors.torch.save_file)(weights, source)
        source.write_bytes(source.read_bytes()[:-1000])
    else:
        source.write_bytes(content)
    assert re.match(rf"{source}: (damaged or not|holds no tensors)", runner.refusal(source=source))


def test_missing_source_and_folder_are_named(runner: Runner) -> None:
    nowhere = runner.folder / "nowhere.pth"
    assert runner.refusal(source=nowhere).startswith(f"{nowhere}: no such file")
    assert runner.refusal(source=runner.folder).startswith(f"{runner.folder}: a folder, as TensorFlow's SavedModel")


def test_target_that_exists_stays(runner: Runner, theirs: nn.Module) -> None:
    torch.save(theirs.state_dict(), runner.source)
    runner.target.write_text("mine")
    line = f"{runner.target}: exists and stays as it is; name another file as TARGET, which comes after SOURCE\n"
    assert runner.refusal() == line
    assert runner.target.read_text() == "mine"


def test_target_named_like_an_exported_file_is_refused(runner: Runner, theirs: nn.Module) -> None:
    torch.save(theirs.state_dict(), runner.source)
    runner.target = runner.folder / "mine.onnx"
    assert (
        runner.refusal() == f"{runner.target}: named like an exported file, not like weights; let it end in .pth.tar\n"
    )


@pytest.mark.parametrize("width", [0.125, 0.275, 0.33, 0.625, 1.17])
def test_any_width_is_found(runner: Runner, width: float) -> None:
    network = torchvision.models.mobilenet_v2(num_classes=3, width_mult=width)
    runner.convert(network.state_dict())
    written = torch.load(runner.target, weights_only=True)
    MobileNetV2(3, written["model_width_mult"]).load_state_dict(written["state_dict"])
    if width % 0.125 == 0:
        assert written["model_width_mult"] == width


@torch.no_grad()
def test_one_output_becomes_two_classes(runner: Runner) -> None:
    """As of a network trained with the binary cross entropy: sigmoid(x) is the second probability of softmax(0, x)."""
    network = randomize(torchvision.models.mobilenet_v2(num_classes=1, width_mult=0.35)).eval()
    assert "2 classes" in runner.convert(network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(runner.network(2)(images).softmax(1)[:, 1:], network(images).sigmoid(), atol=1e-5)


def test_class_names_of_a_file_that_begins_with_a_mark(runner: Runner, theirs: nn.Module) -> None:
    names = [f"class {number}" for number in range(len(theirs.classifier[1].bias))]
    (runner.folder / "names.txt").write_text("\r\n".join(names), encoding="utf-8-sig", newline="")
    runner.convert(theirs.state_dict(), "--class-names", runner.folder / "names.txt")
    assert torch.load(runner.target, weights_only=True)["class_names"] == names


def test_target_in_a_folder_that_does_not_exist_is_refused(runner: Runner, theirs: nn.Module) -> None:
    torch.save(theirs.state_dict(), runner.source)
    runner.target = runner.folder / "reslts" / "mine.pth.tar"
    assert runner.refusal().startswith(f"{runner.target.parent}: no such folder; make it")


def test_target_that_cannot_be_written_is_named(runner: Runner, theirs: nn.Module) -> None:
    (runner.folder / "file").write_text("")
    torch.save(theirs.state_dict(), runner.source)
    runner.target = runner.folder / "file" / "target.pth.tar"
    with pytest.raises(SystemExit):
        runner.run()
    assert str(runner.folder / "file") in runner.capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mean", 2, 2, 2), "model_mean_parameters = [2.0, 2.0, 2.0]; expected three numbers from 0 to 1"),
        (("--std", "nan", 1, 1), "expected three numbers above 0"),
        (("--image-size", 8), "image_size = 8; expected an int >= 32"),
        (("--mean", "a"), "argument --mean"),
        (("extra",), "unrecognized arguments: extra"),
    ],
)
def test_bad_options_are_one_line(runner: Runner, options: tuple, message: str) -> None:
    assert message in runner.refusal(*options)


# As a user runs it


def test_from_another_project_to_test_and_inference(project: Project, theirs: nn.Module) -> None:
    network = timm.create_model("mobilenetv2_035", pretrained=False, num_classes=3)
    safetensors.torch.save_file(randomize(network).state_dict(), project.root / "model.safetensors")
    (project.root / "results/pretrained_models").mkdir(parents=True)  # there in a clone
    words = ["model.safetensors", "results/pretrained_models/mine.pth.tar", "--image-size", "32"]
    done = run_command(ROOT / "scripts/convert_weights.py", *words, folder=project.root)
    assert (done.returncode, done.stderr) == (0, "")
    to_test = done.stdout.split("config.py, to fine-tune:")[0]
    values = re.findall(r"(?m)^  line \d+: (\w+) = (.+)$", to_test)
    project.set(**{name: json.loads(value) for name, value in values if name != "mode"})
    assert "(15 images)" in project.run_well("test.py", mode="test")
    labels = {str(index): name for index, name in enumerate("abc")}
    (project.root / "labels.json").write_text(json.dumps(labels))
    project.set(class_label_file="labels.json")
    assert len(project.run_well("inference.py", "data/Colours/valid/red/000.png").splitlines()) == 2 + 3
