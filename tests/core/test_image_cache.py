# SPDX-License-Identifier: Apache-2.0
"""Decoded images in shared memory."""

import contextlib
import math
import os
import pickle
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from image_folders import TRAIN, batches_of, damage, epoch_of, train_batches

import dataset
from core.image_cache import control_groups, free_in_group, free_memory
from dataset import (
    ImageDataset,
    cache_images,
)
from imgproc import eval_transform
from shared.small_training import write_images

EVAL = partial(eval_transform, image_size=32)


@pytest.fixture
def even_folder(tmp_path: Path) -> Path:
    """3 classes x 8 images: 6 batches of 4, so that an epoch takes every image."""
    write_images(tmp_path / "images", 8)
    return tmp_path / "images"


def cached(folder: Path, **options: object) -> ImageDataset:
    dataset = ImageDataset(folder, TRAIN, num_classes=3, seed=3, **options)
    cache_images([dataset], num_processes=1, asked_by="cache_images")
    return dataset


@pytest.mark.parametrize("num_workers", [0, 2])
def test_cached_images_give_the_same_batches(even_folder: Path, num_workers: int) -> None:
    with_cache = batches_of(cached(even_folder), num_workers)
    for epoch in (0, 1, 2):
        for one, other in zip(epoch_of(train_batches(even_folder), epoch), epoch_of(with_cache, epoch), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_cached_images_are_read_once(even_folder: Path, num_workers: int) -> None:
    expected = [epoch_of(train_batches(even_folder), epoch)[0] for epoch in (0, 1)]
    with_cache = batches_of(cached(even_folder), num_workers)
    assert torch.equal(epoch_of(with_cache, 0)[0], expected[0])
    for path in even_folder.glob("*/*"):
        path.unlink()
    assert torch.equal(epoch_of(with_cache, 1)[0], expected[1])


def test_an_image_that_changes_its_size_is_read_every_time(even_folder: Path) -> None:
    """A larger one would not fit where its pixels are to lie, between those of its neighbours."""
    dataset = cached(even_folder)
    before = [dataset.decoded(index).copy() for index in (0, 2)]
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    cv2.imwrite(dataset.path(1), image)
    for _ in range(2):
        assert np.array_equal(dataset.decoded(1), image[..., ::-1])
    assert all(np.array_equal(dataset.decoded(index), old) for index, old in zip((0, 2), before, strict=True))


def test_an_unreadable_image_is_no_less_so_with_a_cache(even_folder: Path) -> None:
    damage(even_folder / "green/001.png")
    assert cached(even_folder, skip_bad=True)[0, 9] is None
    dataset = cached(even_folder)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"green/001.png: not a readable image"):
            dataset[0, 9]


@pytest.mark.parametrize(("num_processes", "fits"), [(1, True), (2, False)])
def test_a_cache_that_does_not_fit_is_refused(
    even_folder: Path, monkeypatch: pytest.MonkeyPatch, num_processes: int, fits: bool
) -> None:
    """24 images of 36 x 30 pixels and 3 bytes, of two datasets: 0.148 MiB, or 0.297 MiB in two processes."""
    monkeypatch.setattr(dataset, "free_memory", lambda: 0.3 * 2**20)
    datasets = [ImageDataset(even_folder, EVAL, num_classes=3) for _ in range(2)]
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match=r"line 3 needs 0 MiB for 96 decoded im"):
        cache_images(datasets, num_processes, asked_by="config.py line 3")
    assert [each.cache is not None for each in datasets] == [fits] * 2


def test_free_memory_is_less_than_the_memory_of_the_machine() -> None:
    assert 0 < free_memory() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_limits_of_all_control_groups_hold(tmp_path: Path) -> None:
    """Of the group of a job, and of those above it; "max" is none."""
    (tmp_path / "self").mkdir()
    cgroup, root = tmp_path / "self/cgroup", tmp_path / "groups"
    job = root / "slurm/job"
    job.mkdir(parents=True)
    for folder, limit in ((job, "max"), (job.parent, "8000"), (root, "9000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("5000\n")
        (folder / "memory.stat").write_text("anon 4000\ninactive_file 600\nactive_file 100\n")
    cgroup.write_text("1:name=systemd:/other\n0::/slurm/job\n")
    assert control_groups(tmp_path, root) == [job, job.parent, root]
    assert [free_in_group(group) for group in control_groups(tmp_path, root)] == [math.inf, 3700, 4700]
    for content in ("0::/\n", "0::/../..\n", ""):  # as containers see their own, and what has no version 2
        cgroup.write_text(content)
        assert control_groups(tmp_path, root) == [root]


def test_a_cache_cannot_be_sent_to_a_spawned_worker(even_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"cache_images = True needs workers that can be forked"):
        pickle.dumps(cached(even_folder))
