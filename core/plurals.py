# SPDX-License-Identifier: Apache-2.0
"""Counted nouns in messages."""


def counted(number: int, one: str, several: str = "") -> str:
    """Like "1 image" or "2 images". `several`: where an s behind it is not all, as of "class is" and "classes are"."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"
