# SPDX-License-Identifier: Apache-2.0
"""Seeds for torch's generators, as functions of what is drawn for."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


def torch_seed(seed: int, *key: int) -> int:
    """A seed for torch's generators that is a function of its arguments alone."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64).item())


@contextlib.contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """A block in which torch's own generator, which torchvision draws from, begins with a seed; after it, as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # manual_seed() takes a third of a millisecond for other devices
        yield
