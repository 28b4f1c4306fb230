# SPDX-License-Identifier: Apache-2.0
"""The optimizer's groups and the schedule, against hand-made numbers."""

import copy
import subprocess
import sys

import pytest
import torch
from checkpoint_files import train_state
from conftest import ROOT
from torch import nn

from core.optimisation import QuickSGD, warmup_cosine


def test_schedule_by_hand() -> None:
    factor = warmup_cosine(warmup_steps=4, total_steps=12)
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factor(8) == pytest.approx(0.5)  # half way down
    assert factor(6) == pytest.approx((2 + 2**0.5) / 4)  # (1 + cos 45 degrees) / 2
    assert factor(12) == factor(13) == 0.0


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 3), (5, 3), (3, 3)])
def test_short_runs_have_a_schedule(warmup: int, total: int) -> None:
    factor = warmup_cosine(warmup, total)
    assert all(0 < factor(step) <= 1 for step in range(total))


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


def rates(**changes: object) -> dict[str, float]:
    """The rate of each parameter at the first step without warm-up."""
    state = train_state(lr_warmup_epochs=0, **changes)
    names = {id(weight): name for name, weight in state.network.named_parameters()}
    return {names[id(weight)]: group["lr"] for group in state.optimizer.param_groups for weight in group["params"]}


def test_blocks_have_a_rate_of_their_own() -> None:
    found = rates(model_lr=0.1, backbone_lr_factor=0.25)
    assert len(found) == 52 * 3 + 2
    for name, rate in found.items():
        assert rate == pytest.approx(0.1 if name.startswith("classifier.") else 0.025), name


@pytest.mark.parametrize(("blocks", "trained"), [(0, 158), (14, 41), (18, 5), (19, 2)])
def test_what_is_frozen_has_no_rate(blocks: int, trained: int) -> None:
    """A block has 3 convolutions with a scale and a bias for each channel; the first block and the ends have less."""
    assert len(rates(frozen_blocks=blocks)) == trained


def test_checkpoints_number_the_parameters_as_before() -> None:
    """Kernels from the first layer to the last, then scales and biases: momenta are stored by these numbers."""
    state = train_state()
    numbered = [weight for group in state.optimizer.param_groups for weight in group["params"]]
    network = list(state.network.parameters())
    expected = [weight for weight in network if weight.ndim > 1] + [weight for weight in network if weight.ndim <= 1]
    assert list(map(id, numbered)) == list(map(id, expected))


KINDS = QuickSGD, torch.optim.SGD


def test_steps_are_those_of_torchs_sgd() -> None:
    settings = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "fused": True}
    torch.manual_seed(0)
    networks = [network := nn.Linear(3, 2), copy.deepcopy(network)]
    optimizers = [kind(each.parameters(), **settings) for kind, each in zip(KINDS, networks, strict=True)]
    for step in range(3):
        for each, optimizer in zip(networks, optimizers, strict=True):
            each(torch.arange(3.0) + step).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            optimizer.load_state_dict(optimizer.state_dict())
    for ours, theirs in zip(*(each.parameters() for each in networks), strict=True):
        assert torch.equal(ours, theirs)
    assert optimizers[0].state_dict().keys() == optimizers[1].state_dict().keys()


def test_no_step_imports_the_compiler() -> None:
    """In a process of its own: the tests before this one may have imported it."""
    script = """
import sys, torch
from core.optimisation import QuickSGD
weight = torch.ones(1, requires_grad=True)
optimizer = QuickSGD([weight], lr=0.1)
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print(weight.item(), "torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    weight, is_imported = done.stdout.split()
    assert float(weight) == pytest.approx(0.9)
    assert is_imported == "False"
