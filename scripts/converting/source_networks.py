# SPDX-License-Identifier: Apache-2.0
"""The MobileNetV2 in a file of any of the kinds that are read."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from converting.facts import Facts
from converting.graphs import Graph
from converting.keras_weights import KerasWeights
from converting.matching import match_network
from converting.networks import Found, find_network
from converting.source_files import read_source
from core.settings import SHARED_RULES

KERAS_FACTS = Facts(
    model_padding="same",
    model_batch_norm_eps=1e-3,
    notes=("The file holds weights alone; padding and eps are taken to be those of Keras' own MobileNetV2.",),
    are_usual=True,
)


class Source(NamedTuple):
    """What a file holds."""

    found: Found
    left_out: list[str]  # the names of the tensors that are no part of the network
    checkpoint: dict[str, Any]  # of PyTorch, empty for other kinds


def read_network(path: Path) -> Source:
    """Find the MobileNetV2 in a file. Raises: FileNotFoundError; ValueError naming the file and what is wrong."""
    content = read_source(path)
    if isinstance(content, Graph):
        found = match_network(content, path)
        check_facts(found.facts, path)
        return Source(as_classes(found), [], {})
    found, left_out = find_network(content, path)
    if isinstance(content, KerasWeights):
        return Source(as_classes(found._replace(facts=KERAS_FACTS)), left_out, {})
    return Source(as_classes(found), left_out, content)


def as_classes(found: Found) -> Found:
    """One with two classes in place of one output, whose sigmoid is the probability of the second."""
    if found.num_classes > 1:
        return found
    note = "Its one output became two classes: the first has the logit 0, the second that output."
    return found.with_classifier(lambda tensor: torch.cat([torch.zeros_like(tensor), tensor]), note)


def check_facts(facts: Facts, path: Path) -> None:
    """Raise ValueError for a value that config.py cannot have."""
    for name, value in facts._asdict().items():
        if name in SHARED_RULES and value is not None:
            is_valid, expected = SHARED_RULES[name]
            if not is_valid(value):
                raise ValueError(f"{path}: has {name} = {value}; config.py takes {expected}, so this is no file to use")
