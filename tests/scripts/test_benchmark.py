# SPDX-License-Identifier: Apache-2.0
"""scripts/benchmark.py: its parts."""

import inspect

import pytest

import benchmark


@pytest.mark.parametrize("part", benchmark.PARTS)
def test_each_part_has_a_function_that_measures_it(part: str) -> None:
    assert list(inspect.signature(benchmark.measure_part(part)).parameters) == ["options"]
