# SPDX-License-Identifier: Apache-2.0
"""The file that keeps the outputs of frozen blocks."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import config_with
from torch import Tensor

from core import frozen_outputs
from core.frozen_outputs import HEADER_BYTES, OutputFile, count_views, keep_outputs

OF = {"weights": "a", "images": "b", "settings": {"image_size": 32}}


def file_of(folder: Path, shape: tuple[int, ...] = (2, 3, 5), dtype: torch.dtype = torch.float32) -> OutputFile:
    return OutputFile(folder / "samples/frozen_train.outputs", OF, views=2, images=4, shape=shape, dtype=dtype)


def outputs_of(file: OutputFile) -> Tensor:
    """Maps [views x images, C, h, w], or vectors, that bfloat16 holds without rounding."""
    numbers = torch.arange(8 * 30).view(8, 30) % 256
    return numbers.view(8, 5, 2, 3).float() if len(file.shape) == 3 else numbers[:, : file.shape[0]].float()


def batches_of(outputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of 3 images; image 1 of view 1 could not be read, so that another one stands in its place."""
    for numbers in ([0, 1, 2], [3, 4, -1], [6, 7]):
        yield outputs[numbers], torch.tensor(numbers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 5), (7,)])
def test_outputs_come_back_as_they_were(tmp_path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    file = file_of(tmp_path, shape, dtype)
    outputs = outputs_of(file)
    kept = keep_outputs(file, lambda: batches_of(outputs))
    assert kept.views == 2
    assert kept.shape == outputs.shape[1:]
    rows, found = kept.take(1, [3, 1, 0])
    assert found.tolist() == [3, 0]
    assert torch.equal(rows, outputs[[7, 4]])
    if len(shape) == 3:
        assert rows.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(kept.take(0, [2])[0], outputs[[2]])
    size = HEADER_BYTES + 8 * (dtype.itemsize * np.prod(shape) + 1)  # and a byte for each that says it is there
    assert file.path.stat().st_size == size


def test_what_is_kept_is_not_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = file_of(tmp_path)
    keep_outputs(file, lambda: batches_of(outputs_of(file)))
    assert "Outputs of the frozen blocks for 2 x 4 images: " in capsys.readouterr().out
    kept = keep_outputs(file, lambda: pytest.fail("computed again"))
    assert torch.equal(kept.take(0, [0])[0], outputs_of(file)[[0]])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"of": OF | {"weights": "c"}}, "weights"),
        ({"of": OF | {"images": "c", "settings": {"image_size": 64}}}, "images, settings"),
        ({"views": 1}, "views"),
        ({"dtype": torch.bfloat16}, "dtype"),
        ({"of": OF | {"weights": "c"}, "shape": (3, 2, 5)}, "weights, shape"),
    ],
)
def test_outputs_of_something_else_are_computed_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture, change: dict, named: str
) -> None:
    keep_outputs(file_of(tmp_path), lambda: batches_of(outputs_of(file_of(tmp_path))))
    capsys.readouterr()
    file = replace(file_of(tmp_path), **change)
    numbers = torch.arange(file.views * file.images)
    ones = torch.ones(len(numbers), file.shape[-1], *file.shape[:-1])
    kept = keep_outputs(file, lambda: [(ones, numbers)])
    assert f"holds outputs for other {named}: computed anew." in capsys.readouterr().out
    assert kept.take(0, [0])[0].eq(1).all()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda content: content[:-1], "size"),
        (lambda content: content[:100], "content"),
        (lambda content: b"", "content"),
        (lambda content: b"\xff" * len(content), "content"),
        (lambda content: json.dumps([]).encode().ljust(HEADER_BYTES) + content[HEADER_BYTES:], "content"),
    ],
)
def test_a_damaged_file_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture, damage: object, named: str) -> None:
    file = file_of(tmp_path)
    keep_outputs(file, lambda: batches_of(outputs_of(file)))
    file.path.write_bytes(damage(file.path.read_bytes()))
    kept = keep_outputs(file, lambda: batches_of(outputs_of(file)))
    assert f"other {named}: computed anew" in capsys.readouterr().out
    assert torch.equal(kept.take(0, [1])[0], outputs_of(file)[[1]])


def test_an_interrupted_computation_leaves_no_file(tmp_path: Path) -> None:
    file = file_of(tmp_path)

    def interrupted() -> Iterator[tuple[Tensor, Tensor]]:
        yield outputs_of(file)[:3], torch.arange(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_outputs(file, interrupted)
    assert list(file.path.parent.iterdir()) == []
    kept = keep_outputs(file, lambda: batches_of(outputs_of(file)))
    assert torch.equal(kept.take(0, [3])[0], outputs_of(file)[[3]])


def test_what_finds_no_room_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(tmp_path)
    keep_outputs(file, lambda: batches_of(outputs_of(file)))
    capsys.readouterr()
    old = file.path.stat().st_size  # room that a file of the same name would take over
    file = replace(file, of=OF | {"weights": "c"})
    needed = file.size - old + frozen_outputs.ROOM_FOR_CHECKPOINTS
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    assert keep_outputs(file, lambda: pytest.fail("computed")) is None
    assert "no room for 0 MiB of outputs of the frozen blocks; they are computed for every" in capsys.readouterr().out
    asked = replace(file, asked_by="config.py line 112: cached_views = 2")
    with pytest.raises(
        ValueError, match=r"^config.py line 112: cached_views = 2: .*: no room for .*; make room, or lower"
    ):
        keep_outputs(asked, lambda: pytest.fail("computed"))
    assert file.path.stat().st_size == old  # it stays
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert keep_outputs(asked, lambda: batches_of(outputs_of(file))) is not None


def test_a_damaged_output_is_named(tmp_path: Path) -> None:
    file = file_of(tmp_path)
    keep_outputs(file, lambda: batches_of(outputs_of(file)))
    content = file.path.read_bytes()
    file.path.write_bytes(content[:HEADER_BYTES] + b"\xff" * 120 + content[HEADER_BYTES + 120 :])  # NaN, 30 times
    kept = keep_outputs(file, lambda: pytest.fail("computed"))
    with pytest.raises(ValueError, match=r"frozen_train.outputs: damaged; remove it, and it is computed anew"):
        kept.take(0, [0])
    kept.take(0, [1])


def test_a_disk_that_fills_up_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frozen_outputs.os, "pwrite", no_space)
    file = file_of(tmp_path)
    with pytest.raises(OSError, match=r"frozen_train.outputs: No space left on device; make room for it"):
        keep_outputs(file, lambda: batches_of(outputs_of(file)))


def test_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    file = file_of(tmp_path)
    with pytest.raises(
        FloatingPointError, match="the frozen blocks give values that are not finite in torch.float32: set"
    ):
        keep_outputs(file, lambda: [(torch.full((1, 5, 2, 3), float("nan")), torch.tensor([0]))])


@pytest.mark.parametrize(
    ("changes", "views"),
    [
        ({"random_crop_scale": None}, 1),
        ({"random_crop_scale": None, "cached_views": 5}, 1),  # all views would be the same
        ({"random_crop_scale": None, "mixup_alpha": 0.2}, 0),  # images are mixed
        ({"random_crop_scale": None, "mixup_alpha": 0.2, "cached_views": 5}, 1),  # outputs are
        ({"mixup_alpha": 0.2, "cached_views": 5}, 5),
        ({"random_crop_scale": None, "cutmix_alpha": 1.0}, 0),
        ({}, 0),  # the shipped crops are new in every epoch
        ({"cached_views": 5}, 5),
        ({"cached_views": 500}, 60),  # the shipped epochs
        ({"random_crop_scale": None, "trivial_augment": True, "cached_views": 2}, 2),
        ({"random_crop_scale": None, "random_erasing_probability": 0.1}, 0),
        ({"random_crop_scale": None, "random_flip_probability": 0.5}, 0),
    ],
)
def test_views_are_kept_where_they_recur(changes: dict, views: int) -> None:
    assert count_views(config_with(**changes)) == views


def test_hashes_tell_images_apart_by_name_size_and_time(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(b"12")
    names = [str(path) for path in paths]
    first = frozen_outputs.hash_files(names)
    assert frozen_outputs.hash_files(names) == first
    assert frozen_outputs.hash_files(reversed(names)) != first
    paths[0].write_bytes(b"123")
    assert frozen_outputs.hash_files(names) != first
    paths[1].unlink()
    assert frozen_outputs.hash_files(names) != first  # and no error: reading it will tell
