# SPDX-License-Identifier: Apache-2.0
"""What train.py's loop needs to know of what it trains."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core.checkpoints import TrainState
from core.metrics import EpochMeter
from core.reports import Writer
from core.settings import Rules

Loss = Callable[[Tensor, Tensor, int], Tensor]  # of the images and targets of a batch, and its number in the epoch
Form = Callable[[nn.Module, torch.dtype], nn.Module]  # what computes with the weights of a network in a precision


class Task(NamedTuple):
    """What is trained, on what, and how it is scored.

    train.main() opens the splits, and builds the network and what trains it (train_form). In each epoch it asks for the
    loss of every batch, then for what scores the average of the weights (score_form) and for the scores. The network
    has `features`, and what follows them. The batches are those of dataset.create_batches().
    """

    rules: Rules  # of its config.py
    score: str  # by its name among the scores, that which is largest for the best weights; percent
    meter: type[EpochMeter]  # of an epoch of training
    create_splits: Callable[[ModuleType, torch.device], tuple[Any, Any]]  # the batches to train and to validate on
    create_network: Callable[[ModuleType, float], nn.Module]  # with a probability of dropout
    load_pretrained_weights: Callable[[nn.Module, ModuleType, list[str]], str]  # gives the lines that tell of it
    train_form: Form
    score_form: Form
    create_loss: Callable[[ModuleType, TrainState, Any, Writer], Loss]  # for an epoch; it adds to state.meter
    create_scores: Callable[[ModuleType, TrainState], Any]  # utils.Scores
    guessing_loss: Callable[[ModuleType], float]  # that of a network which knows nothing
    compare_losses: Callable[[ModuleType], str]  # a line about the losses of training and validation
