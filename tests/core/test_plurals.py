# SPDX-License-Identifier: Apache-2.0
"""Counted nouns in messages."""

from core.plurals import counted


def test_one_is_not_several() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(number, "class is", "classes are") for number in (1, 3)] == ["1 class is", "3 classes are"]


def test_large_numbers_can_have_commas() -> None:
    assert [counted(number, "image", form=",") for number in (1, 1000)] == ["1 image", "1,000 images"]
    assert counted(1000, "image") == "1000 images"
