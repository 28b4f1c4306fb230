# SPDX-License-Identifier: Apache-2.0
"""The moving average of weights."""

import pytest
import torch
from checkpoint_files import train_state
from torch import nn

from core import checkpoints, moving_average


def test_average_keeps_the_past_and_warms_up() -> None:
    source = nn.BatchNorm1d(1)
    average = moving_average.MovingAverage(source, decay=0.9)
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
    average = moving_average.MovingAverage(source, decay=0.5)
    average.n_averaged.fill_(1000)
    nn.init.zeros_(average.module.weight)
    nn.init.ones_(source.weight)
    average.update_parameters(source)
    assert average.module.weight.item() == pytest.approx(0.5)


def test_average_leaves_counters_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """One operation for all that has a fraction: 158 parameters, and two statistics of each of 52 batch-norms."""
    state, calls = train_state(), []
    monkeypatch.setattr(moving_average, "get_ema_multi_avg_fn", lambda decay: lambda *lists: calls.append(lists[:2]))
    state.ema_network.update_parameters(state.network)
    assert [(len(averaged), len(current)) for averaged, current in calls] == [(262, 262)]
    assert all(tensor.is_floating_point() for averaged, current in calls for tensor in (*averaged, *current))
    state.network.get_buffer("features.0.1.num_batches_tracked").fill_(3)
    saved = checkpoints.averaged_weights(state)
    assert saved["features.0.1.num_batches_tracked"] == 3
    assert list(saved) == list(state.network.state_dict())
    for name, value in state.ema_network.module.named_parameters():
        assert torch.equal(saved[name], value)
