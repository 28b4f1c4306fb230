# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as tests read them."""

from pathlib import Path
from types import SimpleNamespace

import torch

import train
from shared.small_training import CLASSES, CountedImages


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


def train_state(**changes: object) -> train.TrainState:
    config = SimpleNamespace(
        **{"model_arch_name": "mobilenet_v2", "model_num_classes": 3, "model_width_mult": 0.35, "model_dropout": 0.2},
        **{"model_weight_decay": 4e-5, "model_lr": 0.1, "model_momentum": 0.9, "model_ema_decay": 0.99},
        **{"model_padding": "symmetric", "model_batch_norm_eps": 1e-5},
        **{"precision": "float32", "image_size": 32, "gradient_accumulation_steps": 1, "lr_warmup_epochs": 1},
        **{"frozen_blocks": 0, "backbone_lr_factor": 1.0, "class_weights": None},
        epochs=3,
        sync_batch_norm=False,
    )
    vars(config).update(changes)

    class Batches:
        dataset = CountedImages(10_000, CLASSES)

        def __len__(self) -> int:
            return 7

    return train.create_train_state(config, torch.device("cpu"), Batches())


def momenta(state: train.TrainState) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each parameter with its momentum."""
    return [(parameter, values["momentum_buffer"]) for parameter, values in state.optimizer.state.items()]
