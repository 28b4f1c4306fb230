# SPDX-License-Identifier: Apache-2.0
"""scripts/benchmark.py: its parts."""

import inspect

import pytest
import torch

import benchmark
from measuring import training_steps
from train import create_train_state


@pytest.mark.parametrize("part", benchmark.PARTS)
def test_each_part_has_a_function_that_measures_it(part: str) -> None:
    assert list(inspect.signature(benchmark.measure_part(part)).parameters) == ["options"]


def test_steps_of_train_py_have_all_that_they_read_of_config() -> None:
    config = training_steps.training_config("float32", torch.device("cpu"), 2)
    batches = training_steps.random_batches(torch.device("cpu"), 2, 1)
    training_steps.our_steps(config, create_train_state(config, torch.device("cpu"), batches), batches)
