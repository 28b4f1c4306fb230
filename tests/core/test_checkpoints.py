# SPDX-License-Identifier: Apache-2.0
"""The training state in files."""

import torch
from checkpoint_files import momenta, read, train_state
from conftest import Project

from core import checkpoints
from shared.small_training import CLASSES

CHECKPOINT_KEYS = {
    *("epoch", "position", "epoch_sums", "best_acc1", "state_dict", "ema_state_dict", "ema_updates"),
    *("optimizer", "scheduler", "scaler", "class_names", "config"),
}


def test_momentum_of_a_checkpoint_gets_the_layout_of_its_parameter() -> None:
    """Whatever layout and number format it was saved in; what was not saved is zero."""
    state = train_state()
    weight = next(state.network.parameters())
    saved = torch.arange(weight.numel(), dtype=torch.float64).reshape(weight.shape)
    assert saved.stride() != weight.stride()
    checkpoints.fill_momentum(state.optimizer, {0: saved, 1: None})
    pairs = momenta(state)
    assert torch.equal(pairs[0][1].double(), saved)
    assert all(momentum.stride() == parameter.stride() for parameter, momentum in pairs)
    assert not any(momentum.any() for _, momentum in pairs[1:])


def test_checkpoint_keys_are_frozen(trained_project: Project) -> None:
    checkpoint = read(trained_project.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar")
    assert set(checkpoint) == CHECKPOINT_KEYS
    assert checkpoint["epoch"] == 6
    assert checkpoint["position"] == 0
    assert checkpoint["ema_updates"] == 6 * 9
    assert checkpoint["class_names"] == sorted(CLASSES)
    assert checkpoint["config"]["batch_size"] == 16
    assert not [name for name in checkpoint["state_dict"] if name.startswith(("module.", "_orig_mod."))]
