# SPDX-License-Identifier: Apache-2.0
"""What the loops of train.py and test.py need to know of what they train and test."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core.checkpoints import TrainState
from core.metrics import EpochMeter, LossMeter
from core.network_weights import load_pretrained_features
from core.recomputing import recomputing
from core.reports import Writer
from core.settings import Rules

Loss = Callable[[Tensor, Tensor, int], Tensor]  # of the images and targets of a batch, and its number in the epoch
Form = Callable[[nn.Module, torch.dtype], nn.Module]  # what computes with the weights of a network in a precision


class Task(NamedTuple):
    """What is trained and tested, on what, and how it is scored.

    train.main() opens the splits, and builds the network and what trains it (train_form). In each epoch it asks for the
    loss of every batch, then for what scores the average of the weights (score_form) and for the scores. The network
    has `features`, and what follows them. test.main() scores a network with trained weights, but a classifier in a way
    of its own. A split is a dataset for dataset.create_batches().
    """

    rules: Rules  # of its config.py
    score: str  # by its name among the scores, that which is largest for the best weights; percent
    # By its config.py "train", "valid" or "test", and the classes to have if they are known.
    open_split: Callable[[ModuleType, str, Sequence[str] | None], Any]
    create_network: Callable[..., nn.Module]  # by its config.py, and a probability of dropout
    score_form: Form
    create_loss: Callable[[ModuleType, TrainState, Any, Writer], Loss]  # for an epoch; it adds to state.meter
    create_scores: Callable[[ModuleType, Any, torch.device], Any]  # utils.Scores, by the network
    guessing_loss: Callable[[ModuleType], float]  # about the most that one has which knows nothing
    compare_losses: Callable[[ModuleType], str]  # a line about the losses of training and validation
    # For test.py: what the figure of a class is called, like AP, and what test.json has besides: under this name in
    # small letters the figures.
    title: str = ""
    report: Callable[[ModuleType, Any, Sequence[str]], dict[str, Any]] = lambda config, scores, classes: {}
    # For train.py, what all but the classifier have in common.
    meter: type[EpochMeter] = LossMeter  # of an epoch
    load_pretrained_weights: Callable[[nn.Module, ModuleType, list[str]], str] = load_pretrained_features  # -> lines
    train_form: Form = recomputing
