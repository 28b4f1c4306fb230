# SPDX-License-Identifier: Apache-2.0
"""scripts/measuring/images.py: what the parts of benchmark.py read, the same images for every candidate."""

from pathlib import Path

import pytest
from PIL import Image

from measuring.images import IMAGENET_SIDES, PHOTO_NOISE, link_images, store_small, write_noise
from shared.small_training import write_images


def test_links_take_the_classes_in_turn_and_begin_again(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 2)
    links = link_images(tmp_path / "images", tmp_path / "links", 8)
    turns = [f"{name}/00{number}.png" for number in (0, 1) for name in ("blue", "green", "red")]
    found = sorted(links.glob("*/*"), key=lambda path: int(path.stem))
    assert [str(path.resolve().relative_to(tmp_path / "images")) for path in found] == turns + turns[:2]


def test_links_to_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no <class>/<image> files; give --images another folder"):
        link_images(tmp_path, tmp_path / "links", 8)


def test_generated_photos_are_like_those_of_imagenet(tmp_path: Path) -> None:
    """Mean of ImageNet's files: 468 x 401 pixels and 110 kB, three of four in 4:4:4."""
    root = write_noise(tmp_path / "noise", 10, IMAGENET_SIDES, ".jpg", PHOTO_NOISE)
    sizes = [path.stat().st_size for path in root.glob("*/*")]
    assert len(set(sizes)) > 5
    assert 100e3 < sum(sizes) / len(sizes) < 120e3
    with Image.open(next(root.glob("*/*"))) as picture:
        assert picture.size == (468, 401)
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3


def test_copy_has_a_short_side_of_256(tmp_path: Path) -> None:
    root = write_noise(tmp_path / "noise", 2, (468, 401), ".jpg", PHOTO_NOISE)
    for path in store_small(root, tmp_path / "copy").glob("*/*"):
        with Image.open(path) as picture:
            assert picture.size == (298, 256)
