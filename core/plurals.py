# SPDX-License-Identifier: Apache-2.0
"""Counted nouns in messages."""


def counted(number: int, one: str, several: str = "", *, form: str = "") -> str:
    """Like "1 image" or "2 images". `several`: where an s behind it is not all, as of "class is" and "classes are".

    form: of the number; "," gives "1,000 images".
    """
    return f"{number:{form}} {one if number == 1 else several or f'{one}s'}"
