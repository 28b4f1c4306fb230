# SPDX-License-Identifier: Apache-2.0
"""scripts/unfold_batch_norm.py on weights folded here by the textbook formula."""

import contextlib
import itertools
import re
import shlex
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from command_runs import run_command
from conftest import ROOT, config_with
from PIL import Image
from torch import nn

from core import network_weights
from core.image_files import load_image
from imgproc import eval_transform, normalize
from model import TENSORFLOW, MobileNetV2
from shared.small_training import write_images


def fold(network: nn.Module) -> None:
    """Move each batch-norm's statistics and scale into the convolution before it."""
    modules = list(network.modules())
    for conv, norm in itertools.pairwise(modules):
        if isinstance(norm, nn.BatchNorm2d):
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            shift = norm.bias - norm.running_mean * gain
            conv.weight *= gain[:, None, None, None] * (1 + norm.eps) ** 0.5
            norm.reset_running_stats()
            nn.init.ones_(norm.weight)
            norm.bias.copy_(shift)


@pytest.fixture
def images(tmp_path: Path) -> torch.Tensor:
    """The normalised images of a folder of 3 x 20."""
    write_images(tmp_path / "images", 20)
    files = sorted((tmp_path / "images").glob("*/*.png"))
    pixels = np.stack([partial(eval_transform, image_size=64)(load_image(file)) for file in files])
    return normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.full((3,), 0.5), torch.full((3,), 0.5))


def run(*arguments: object, folder: Path) -> CompletedProcess:
    return run_command(ROOT / "scripts/unfold_batch_norm.py", *arguments, folder=folder)


def test_training_names_the_command_that_keeps_the_function(tmp_path: Path, images: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = MobileNetV2(5, width_mult=0.35, dropout=0.0)
    with torch.no_grad():
        network.get_parameter("features.2.conv.0.0.weight")[0] = 0  # dead, as some published ones
        network(images)  # gives the batch-norms statistics other than 0 and 1
        network.eval()
        original = network(images)
        fold(network)
        assert torch.allclose(network(images), original, atol=1e-5)
        names = ["bird", "cat", "dog", "frog", "horse"]
        torch.save({"state_dict": network.state_dict(), "class_names": names}, tmp_path / "folded.pth")
        use = {"image_size": 64, "model_mean_parameters": [0.5] * 3, "model_std_parameters": [0.5] * 3}
        config = config_with(pretrained_model_weights_path="folded.pth", train_image_dir="images", **use)
        config.model_width_mult = 0.35
        with (
            contextlib.chdir(tmp_path),
            pytest.raises(ValueError, match="52 layers have variance 1 throughout") as caught,
        ):
            network_weights.load_pretrained_weights(MobileNetV2(5, 0.35), config, names)
        python, script, *words = shlex.split(re.search("`(.+)`", str(caught.value))[1])
        assert "--apply-orientation" not in words
        assert network_weights.unfolding("x", "y", vars(config) | {"apply_orientation": True}).endswith(
            " --apply-orientation"
        )
        with pytest.raises(ValueError, match=r" --no-apply-orientation`"):
            network_weights.refuse_folded(network.state_dict(), config, {"apply_orientation": True})
        assert (python, script) == ("python3", "scripts/unfold_batch_norm.py")
        done = run(*words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        config.pretrained_model_weights_path = tmp_path / "results/pretrained_models/folded-unfolded.pth.tar"
        assert str(config.pretrained_model_weights_path.relative_to(tmp_path)) in done.stdout
        lines = network_weights.load_pretrained_weights(network, config, names)
        assert lines == f"Load pretrained weights `{config.pretrained_model_weights_path}`, classifier included."
        assert "trained with other classes" in network_weights.load_pretrained_weights(network, config, list("abcde"))
        assert torch.allclose(network(images), original, atol=1e-5)
        norms = torch.cat([m.weight.flatten(1).norm(dim=1) for m in network.modules() if isinstance(m, nn.Conv2d)])
        assert sorted(norms.tolist()) == pytest.approx([0.0] + [1.0] * (len(norms) - 1), abs=1e-5)
        # Now training and scoring agree on these images, as in a network that was trained.
        network.train()
        assert torch.allclose(network(images), original, atol=0.05 * original.abs().max().item())


def test_statistics_that_were_measured_are_left(tmp_path: Path, images: torch.Tensor) -> None:
    network = MobileNetV2(3, 0.35)
    network(images)
    torch.save(network.state_dict(), tmp_path / "trained.pth")
    done = run("trained.pth", "new.out", "--images", "images", "--width-mult", 0.35, folder=tmp_path)
    line = "trained.pth: its batch-norm is not folded; train from it as it is\n"
    assert (done.returncode, done.stderr) == (2, line)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "damaged or not a PyTorch checkpoint"), (None, "no such file; train first")]
)
def test_bad_source_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "w.pth").write_bytes(content)
    done = run(tmp_path / "w.pth", tmp_path / "out.pth", "--images", tmp_path, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()


@torch.no_grad()
def test_padding_and_eps_are_those_of_the_options_or_the_file(tmp_path: Path, images: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = MobileNetV2(3, 0.35, 0.0, TENSORFLOW)
    network(images)  # gives the batch-norms statistics
    network.eval()
    fold(network)
    original = network(images)
    words = ["--images", "images", "--image-size", 64, "--width-mult", 0.35, "--mean", *[0.5] * 3, "--std", *[0.5] * 3]
    definition = {"model_padding": "same", "model_batch_norm_eps": 1e-3}
    use = {"model_width_mult": 0.35, "model_mean_parameters": [0.5] * 3, "model_std_parameters": [0.5] * 3}
    torch.save({"state_dict": network.state_dict()}, tmp_path / "silent.pth")
    torch.save(definition | use | {"state_dict": network.state_dict()}, tmp_path / "saying.pth")
    torch.save({"config": definition, "state_dict": network.state_dict()}, tmp_path / "checkpoint.pth")
    options = {"silent": ["--padding", "same", "--batch-norm-eps", 1e-3], "saying": [], "checkpoint": []}
    for name, others in options.items():
        done = run(f"{name}.pth", f"{name}.out", *words, *others, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert 'model_padding = "same"' in done.stdout
        assert "model_batch_norm_eps = 0.001" in done.stdout
        written = torch.load(tmp_path / f"{name}.out", weights_only=True)
        assert {key: written[key] for key in definition} == definition
        unfolded = MobileNetV2(3, 0.35, 0.0, TENSORFLOW).eval()
        unfolded.load_state_dict(written["state_dict"])
        assert torch.allclose(unfolded(images), original, atol=1e-5)
    done = run("saying.pth", "said.out", *words[:4], folder=tmp_path)  # the rest is as the file says
    assert (done.returncode, done.stderr) == (0, "")
    written = torch.load(tmp_path / "said.out", weights_only=True)
    assert {key: written[key] for key in use | definition} == use | definition
    assert "model_width_mult = 0.35" in done.stdout
    done = run("saying.pth", "new.out", *words, "--padding", "symmetric", folder=tmp_path)
    line = 'saying.pth: trained with model_padding = "same", not "symmetric"; leave the option out\n'
    assert (done.returncode, done.stderr) == (2, line)
    done = run("silent.pth", "new.out", *words, "--batch-norm-eps", 0, folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "model_batch_norm_eps = 0.0; expected a number from 1e-12 to 1" in done.stderr
    assert not (tmp_path / "new.out").exists()


@torch.no_grad()
def test_orientation_is_that_of_the_options_or_the_file(tmp_path: Path, images: torch.Tensor) -> None:
    """On photos that lie on their side, the statistics tell whether they were turned."""
    for file in sorted((tmp_path / "images").glob("*/*.png")):
        picture = Image.open(file).convert("RGB")
        picture.paste((255, 0, 0), (0, 0, picture.width, picture.height // 3))
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(file.with_suffix(".jpg"), exif=exif)
        file.unlink()
    network = MobileNetV2(3, 0.35)
    network(images)  # gives the batch-norms statistics
    fold(network)
    weights = {"state_dict": network.state_dict(), "model_width_mult": 0.35}
    torch.save(weights, tmp_path / "silent.pth")
    for value in (False, True):
        torch.save(weights | {"apply_orientation": value}, tmp_path / f"{value}.pth")
    means: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for source, options, expected in (
        ("silent", [], None),
        ("silent", ["--apply-orientation"], True),
        ("True", [], True),
        ("False", [], False),
        ("False", ["--apply-orientation"], True),
        ("True", ["--no-apply-orientation"], False),
    ):
        target = f"new-{source}{len(options)}.pth"
        done = run(f"{source}.pth", target, "--images", "images", "--image-size", 32, *options, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        written = torch.load(tmp_path / target, weights_only=True)
        assert written.get("apply_orientation") is expected
        means[bool(expected)].append(written["state_dict"]["features.0.1.running_mean"])
    (upright, *others), (lying, *alike) = means[True], means[False]
    assert len(others) == len(alike) == 2 and not torch.equal(upright, lying)
    assert all(torch.equal(upright, other) for other in others) and all(torch.equal(lying, other) for other in alike)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("w.pth", (), "w.pth: exists and stays as it is; name another file as TARGET"),
        ("new.onnx", (), "new.onnx: named like an exported file"),
        ("new.pth", ("--num-images", 0), "--num-images: 0: expected an int >= 1"),
    ],
)
def test_bad_targets_and_options_are_one_line(tmp_path: Path, target: str, options: tuple, message: str) -> None:
    torch.save(MobileNetV2(3, 0.35).state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    done = run("w.pth", target, "--images", tmp_path, *options, folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert (tmp_path / "w.pth").read_bytes() == content
