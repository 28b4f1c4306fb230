# SPDX-License-Identifier: Apache-2.0
"""What the loader and the end-to-end benchmarks read: the same images on both sides."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

from measuring import loader, plain_training
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


@pytest.mark.parametrize("candidate", ["our_epochs", "plain_epochs"])
def test_an_epoch_of_other_length_is_no_comparison(tmp_path: Path, candidate: str) -> None:
    write_images(tmp_path, 43)  # 129 images: 2 batches of 64, where 32 are asked for
    epoch = getattr(loader, candidate)(tmp_path, Namespace(workers=0))
    with pytest.raises(RuntimeError, match=r"an epoch of 128 images is other work"):
        epoch()


def test_plain_evaluation_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A network whose logits are constants says the class with the largest one of every image."""
    write_images(tmp_path / "images", 4)
    network = torchvision.models.mobilenet_v2(num_classes=3)
    with torch.no_grad():
        network.classifier[1].weight.zero_()
        network.classifier[1].bias.copy_(torch.tensor([0.0, 1.0, 0.5]))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    command = ["plain_training.py", "test", str(tmp_path / "images"), "--weights", str(tmp_path / "weights.pth")]
    monkeypatch.setattr(sys, "argv", [*command, "--image-size", "32", "--workers", "0"])
    plain_training.main()
    assert capsys.readouterr().out == "top-1 4 top-5 12 of 12\n"
