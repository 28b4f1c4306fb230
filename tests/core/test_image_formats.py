# SPDX-License-Identifier: Apache-2.0
"""Every row of the table of image kinds in data/README.md, and formats cut or damaged."""

import contextlib
import io
import re

import numpy as np
import pytest
from conftest import ROOT
from numpy.random import default_rng
from pictures import KINDS, PIXELS, animated_png, decoded, largest_difference, photo, saved
from PIL import Image

from core import image_files


def table_rows() -> dict[str, str]:
    """First and last column of the table in the section "Image files" of data/README.md."""
    section = (ROOT / "data/README.md").read_text().split("## Image files")[1]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    return {row[0]: row[-1] for row in cells[2:]}


def test_table_of_image_kinds_is_complete() -> None:
    assert table_rows().keys() == KINDS.keys()


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")  # Pillow's advice
@pytest.mark.parametrize("kind", KINDS)
def test_image_kind_gives_what_the_table_says(kind: str) -> None:
    files, expected = KINDS[kind]
    stated = table_rows()[kind]
    for data in files:
        if stated == "refused":
            with pytest.raises(ValueError, match=r"^image: an? .+; save it as PNG with 8 bits a channel$"):
                decoded(data)
            continue
        with Image.open(io.BytesIO(data)) as picture:
            difference = largest_difference(decoded(data), picture.convert("RGB"))
        if stated == "differs":
            assert difference > 2
            assert np.abs(decoded(data) - expected.astype(float)).max() <= 1
        else:
            assert difference <= (0 if stated == "equal" else int(re.fullmatch(r"at most (\d+)", stated)[1]))


# Damage: a picture comes out whole, or not at all


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_container_cut_anywhere_is_refused(kind: str) -> None:
    data = saved(photo(64, 96), kind)
    for length in range(0, len(data), 5):
        with pytest.raises(ValueError, match="^image: not a readable image"):
            decoded(data[:length])


def test_damage_in_a_later_frame_of_a_png_does_no_harm() -> None:
    """OpenCV 5.0.0 itself crashes on many of these."""
    data, generator = animated_png(), default_rng(0)
    start = data.index(b"fdAT") + 8
    for _ in range(300):
        spoilt = np.frombuffer(data, dtype=np.uint8).copy()
        spoilt[generator.integers(start, len(data) - 12)] ^= 1 << generator.integers(8)
        with contextlib.suppress(ValueError):  # the length of a chunk was hit
            assert largest_difference(image_files.decode_image(spoilt, "image"), PIXELS) == 0
