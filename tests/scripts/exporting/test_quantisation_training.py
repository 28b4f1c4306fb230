# SPDX-License-Identifier: Apache-2.0
"""--int8 qat: what is simulated, that it can be trained, that it resumes exactly, and what is refused."""

import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import Project, config_with
from test_export import Exporting
from torch import nn
from unequal_channels import make_unequal

from exporting.quantisation_simulation import SimulatedInt8, simulating_graph
from exporting.quantisation_training import check_training, training_config
from model import TENSORFLOW, TORCHVISION, Definition, MobileNetV2

SIZE = 32


def images_of(targets: torch.Tensor, seed: int) -> torch.Tensor:
    """Noise, with one of the three channels brighter."""
    images = torch.randn(len(targets), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    images[torch.arange(len(targets)), targets] += 1
    return images


TARGETS = torch.arange(24) % 3


@pytest.fixture(scope="module", params=[TORCHVISION, TENSORFLOW], ids=["symmetric", "same"])
def trained(request: pytest.FixtureRequest) -> MobileNetV2:
    """A network that tells the images apart, with batch-norms that have seen some."""
    torch.manual_seed(0)
    definition: Definition = request.param
    network = MobileNetV2(3, 0.35, 0.0, definition).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.3
    optimizer = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9)
    for step in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images_of(TARGETS, step)), TARGETS).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def simulated(trained: MobileNetV2) -> SimulatedInt8:
    """Of the network with unequal channels."""
    make_unequal(trained, 12)
    return SimulatedInt8(trained, simulating_graph(trained, SIZE))


def loss_of(network: nn.Module, *seeds: int) -> torch.Tensor:
    """The mean over a batch of each seed."""
    losses = [nn.functional.cross_entropy(network(images_of(TARGETS, seed)), TARGETS) for seed in seeds]
    return torch.stack(losses).mean()


def test_every_layer_is_simulated(simulated: SimulatedInt8) -> None:
    """52 convolutions and the classifier round their weights by channel, and all that flows between is rounded."""
    quantisers = [module for module in simulated.graph.modules() if hasattr(module, "fake_quant_enabled")]
    of_weights = [quantiser for quantiser in quantisers if quantiser.ch_axis == 0]
    assert len(of_weights) == 53
    assert len(quantisers) - 53 >= 64  # the input, 52 convolutions, 10 sums and the mean
    assert all(int(quantiser.fake_quant_enabled) for quantiser in quantisers)


def test_weights_are_rounded_as_by_hand(trained: MobileNetV2, simulated: SimulatedInt8) -> None:
    """The classifier's: 255 steps a class from its largest weight."""
    simulated.eval()
    with torch.no_grad():
        simulated(images_of(TARGETS, 1))
    weight = trained.classifier[1].weight.detach()
    (scale,) = [
        module.scale
        for module in simulated.graph.modules()
        if hasattr(module, "fake_quant_enabled") and module.ch_axis == 0 and tuple(module.scale.shape) == (3,)
    ]
    torch.testing.assert_close(scale, weight.abs().amax(1) / 127.5, rtol=0.01, atol=0)


def test_what_it_computes_is_a_function_of_the_weights(trained: MobileNetV2, simulated: SimulatedInt8) -> None:
    """Nothing that came before changes it: else a resumed run would be another one."""
    simulated.eval()
    images = images_of(TARGETS, 7)
    with torch.no_grad():
        before = simulated(images)
        simulated(100 * images_of(TARGETS, 8))
        simulated.graph.train()
        weights = {name: value.clone() for name, value in trained.state_dict().items()}
        simulated.train()(100 * images)
        trained.load_state_dict(weights)
        assert torch.equal(simulated.eval()(images), before)
        assert simulated(images[:1]).shape == (1, 3)
        assert not torch.equal(before, trained(images))


def test_training_it_makes_the_int8_network_better(trained: MobileNetV2, simulated: SimulatedInt8) -> None:
    """And changes the weights of the network itself, batch-norm's statistics among them."""
    validated = range(200, 204)
    with torch.no_grad():
        float_loss, before = loss_of(trained.eval(), *validated), loss_of(simulated.eval(), *validated)
    assert before > 10 * float_loss  # unequal channels do harm
    updates = trained.features[0][1].num_batches_tracked.clone()
    optimizer = torch.optim.Adam(trained.parameters(), 1e-4)  # the gradients are as unequal as the channels
    simulated.train()
    for step in range(24):
        optimizer.zero_grad()
        loss_of(simulated, 300 + step).backward()
        optimizer.step()
    with torch.no_grad():
        after = loss_of(simulated.eval(), *validated)
    assert after < before / 2
    assert trained.features[0][1].num_batches_tracked >= updates + 24


def test_fine_tuning_is_an_experiment_of_its_own(tmp_path: Path) -> None:
    weights = tmp_path / "best.pth.tar"
    weights.write_bytes(b"abc")
    config = config_with(model_weights_path=str(weights), exp_name="x" * 100, epochs=25, model_lr=0.1, mode="train")
    changed = training_config(config)
    assert re.fullmatch("x{87}-qat-[0-9a-f]{8}", changed.exp_name)
    assert training_config(config).exp_name == changed.exp_name
    names = {training_config(config, *images).exp_name for images in ((None, 10), (None, 20), (tmp_path, None))}
    assert len(names | {changed.exp_name}) == 4  # its start depends on them
    config.num_workers += 1
    assert training_config(config).exp_name == changed.exp_name
    config.image_size = 48
    assert training_config(config).exp_name != changed.exp_name
    config.image_size = 32
    weights.write_bytes(b"abd")
    assert training_config(config).exp_name != changed.exp_name
    assert (changed.epochs, changed.resume, changed.pretrained_model_weights_path) == (3, "auto", str(weights))
    assert changed.model_lr == pytest.approx(0.001)
    assert (config.epochs, config.model_lr) == (25, 0.1)


def test_what_cannot_be_trained_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config: ModuleType = config_with(mode="test")
    with pytest.raises(ValueError, match=r'line \d+: --int8 qat trains, and mode = "test"; set it to "train"'):
        check_training(config)


def test_a_run_that_was_stopped_ends_with_the_same_bits(trained_copy: Project) -> None:
    exporting = Exporting(trained_copy)
    trained_copy.set(epochs=20, num_workers=0, batch_size=48)  # a tenth of which are 2
    arguments = ("onnx", "--int8", "qat", "--only-train")
    printed = exporting.run_well(*arguments)
    assert "Epoch 2/2" in printed
    (samples,) = (exporting.root / "samples").glob("*-qat-*")
    results = exporting.root / "results" / samples.name
    straight = {
        path.name: torch.load(path, weights_only=True)
        for path in (samples / "epoch_2.pth.tar", results / "last.pth.tar")
    }
    (samples / "epoch_2.pth.tar").unlink()
    shutil.rmtree(results)
    exporting.run_well(*arguments)
    for path in (samples / "epoch_2.pth.tar", results / "last.pth.tar"):
        resumed, expected = torch.load(path, weights_only=True), straight[path.name]
        assert resumed.keys() == expected.keys()
        for name, value in expected["state_dict"].items():
            assert torch.equal(resumed["state_dict"][name], value), name
    assert list(straight["last.pth.tar"]["state_dict"]) == list(MobileNetV2(3, 0.35).state_dict())
