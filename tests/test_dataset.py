# SPDX-License-Identifier: Apache-2.0
"""From a folder to batches: which images, in which order, with which random numbers."""

import os
import pickle
import subprocess
import sys
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from image_folders import TRAIN, batches_of, damage, each_batch, epoch_of, train_batches
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder

from core.image_files import load_image
from dataset import (
    CPUPrefetcher,
    CUDAPrefetcher,
    EpochSampler,
    ImageDataset,
    cache_images,
    create_batches,
    create_generator,
)
from imgproc import eval_transform
from shared.small_training import CLASSES, write_images

EVAL = partial(eval_transform, image_size=32)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def test_files_and_targets_are_those_of_image_folder(folder: Path) -> None:
    dataset = ImageDataset(folder, EVAL, num_classes=3)
    expected = ImageFolder(folder)
    assert dataset.classes == expected.classes == sorted(CLASSES)
    assert [dataset.path(index) for index in range(len(dataset))] == [path for path, _ in expected.samples]
    assert dataset.targets.tolist() == expected.targets


def test_images_in_subfolders_and_odd_names_are_found(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    image = (tmp_path / "red/000.png").read_bytes()
    (tmp_path / "red/deep/er").mkdir(parents=True)
    for name in ("red/deep/er/a b.PNG", "red/\u00fc\u4e2d.jpeg", "red/.hidden.png", "red/notes.txt"):
        (tmp_path / name).write_bytes(image)
    dataset = ImageDataset(tmp_path, EVAL, num_classes=3)
    found = {str(Path(dataset.path(i)).relative_to(tmp_path / "red")) for i in range(2, len(dataset))}
    assert found == {"000.png", "deep/er/a b.PNG", "\u00fc\u4e2d.jpeg"}


def test_an_item_is_a_function_of_seed_epoch_and_index(folder: Path) -> None:
    dataset = ImageDataset(folder, TRAIN, num_classes=3, seed=3)
    image, target = dataset[2, 5]
    expected = TRAIN(load_image(dataset.path(5)), create_generator(3, 2, 5))
    assert np.array_equal(image, expected)
    assert target == dataset.targets[5]
    assert not np.array_equal(image, dataset[3, 5][0])
    assert not np.array_equal(image, ImageDataset(folder, TRAIN, num_classes=3, seed=4)[2, 5][0])


def test_generators_of_different_keys_differ() -> None:
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 1, 0)]
    draws = {create_generator(seed, *key).integers(2**62).item() for seed in (0, 1) for key in keys}
    assert len(draws) == 2 * len(keys)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_order_is_a_permutation(epoch: int) -> None:
    sampler = EpochSampler(100, 10, seed=0)
    sampler.epoch = epoch
    keys = [key for batch in sampler for key in batch]
    assert {key[0] for key in keys} == {epoch}
    assert sorted(index for _, index in keys) == list(range(100))
    assert [index for _, index in keys] != list(range(100))


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_processes_share_the_order_of_one(num_processes: int) -> None:
    """A step of n processes is the batch of one process with n times the batch size; 103 images, 4 each."""
    one = EpochSampler(103, 4 * num_processes, seed=5)
    several = [EpochSampler(103, 4, 5, rank, num_processes) for rank in range(num_processes)]
    expected = [[index for _, index in batch] for batch in one]
    shares = [[[index for _, index in batch] for batch in sampler] for sampler in several]
    assert [list(chain(*batches)) for batches in zip(*shares, strict=True)] == expected
    several[0].position = 3
    assert [[index for _, index in batch] for batch in several[0]] == shares[0][3:]
    assert len(several[0]) == 103 // (4 * num_processes)


@pytest.mark.parametrize("num_processes", [1, 2, 3, 4, 30])
def test_evaluation_deals_out_the_batches_of_one_process(num_processes: int) -> None:
    batches = [list(range(start, min(start + 4, 103))) for start in range(0, 103, 4)]
    for rank in range(num_processes):
        sampler = EpochSampler(103, 4, None, rank, num_processes)
        assert [[index for _, index in batch] for batch in sampler] == batches[rank::num_processes]


def test_epochs_have_different_orders() -> None:
    orders = []
    sampler = EpochSampler(100, 10, seed=0)
    for sampler.epoch in range(3):
        orders.append(tuple(sampler.order()))
    assert len(set(orders)) == 3


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_batches_are_the_same_for_every_number_of_workers(folder: Path, num_workers: int) -> None:
    plain, parallel = train_batches(folder), train_batches(folder, num_workers)
    for epoch in (0, 1):
        for one, other in zip(epoch_of(plain, epoch), epoch_of(parallel, epoch), strict=True):
            assert torch.equal(one, other)


def test_two_epochs_differ_and_the_same_epoch_repeats(folder: Path) -> None:
    batches = train_batches(folder)
    first, again, second = (epoch_of(batches, epoch)[0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_training_drops_the_last_partial_batch(folder: Path) -> None:
    assert [len(targets) for _, targets in train_batches(folder)] == [4] * 5  # 21 images


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_sees_every_image_once_in_order(folder: Path, num_workers: int) -> None:
    dataset = ImageDataset(folder, EVAL, num_classes=3)
    batches = batches_of(dataset, num_workers)
    images, targets = epoch_of(batches, 0)
    assert len(batches) == 6  # 21 images in batches of 4
    assert targets.tolist() == dataset.targets.tolist()
    expected = np.stack([EVAL(load_image(dataset.path(index))) for index in range(21)])
    restored = images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert np.array_equal((restored * 255).round().permute(0, 2, 3, 1).numpy(), expected)


def test_batches_are_float_and_channels_last(folder: Path) -> None:
    images, targets = next(iter(train_batches(folder)))
    assert images.dtype == torch.float32
    assert targets.dtype == torch.int64
    assert images.shape == (4, 3, 32, 32)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_workers_hand_over_uint8(folder: Path) -> None:
    images, _ = next(iter(train_batches(folder).loader))
    assert images.dtype == torch.uint8
    assert images.shape == (4, 32, 32, 3)


def test_workers_use_no_memory_again_that_may_still_be_read(folder: Path) -> None:
    """While a batch is in use, its worker prepares as many as the loader has asked it for."""
    batches = train_batches(folder, num_workers=1)
    count = batches.loader.prefetch_factor + 1
    held = [batch for epoch in range(3) for batch in set_and_load(batches, epoch)]
    for place in range(2):  # of the images, of the targets
        memory = [batch[place].data_ptr() for batch in held]
        assert len(set(memory)) == count
        assert all(len(set(memory[n : n + count])) == count for n in range(len(memory) - count + 1))


def set_and_load(batches: CPUPrefetcher, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches as the workers hand them over."""
    batches.set_epoch(epoch)
    return list(batches._loaded())


def test_memory_of_the_workers_stays_mapped(folder: Path) -> None:
    """A segment of each worker, in which all its batches lie."""
    batches = train_batches(folder, num_workers=2)
    for epoch in range(3):
        for images, _ in set_and_load(batches, epoch):
            assert images.untyped_storage().data_ptr() in batches.mapped
        assert len(batches.mapped) == 2


def test_batches_stay_as_they_were_yielded(folder: Path) -> None:
    """Whatever the workers overwrite meanwhile: three batches of each, in turns."""
    expected = [batch for epoch in range(3) for batch in each_batch(train_batches(folder), epoch)]
    shared = train_batches(folder, num_workers=1)
    found = [batch for epoch in range(3) for batch in each_batch(shared, epoch)]
    assert len(found) == 15
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_dataset_can_be_sent_to_a_spawned_worker(folder: Path) -> None:
    dataset = pickle.loads(pickle.dumps(ImageDataset(folder, TRAIN, num_classes=3, seed=0)))
    assert dataset[0, 0][0].shape == (32, 32, 3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_prefetcher_yields_the_batches_of_the_cpu_prefetcher(folder: Path) -> None:
    dataset = ImageDataset(folder, TRAIN, num_classes=3, seed=3)
    on_gpu = create_batches(dataset, batch_size=4, num_workers=2, mean=MEAN, std=STD, device=torch.device("cuda", 0))
    assert isinstance(on_gpu, CUDAPrefetcher)
    on_cpu = batches_of(dataset)
    for epoch in (0, 1):
        for one, other in zip(epoch_of(on_gpu, epoch), epoch_of(on_cpu, epoch), strict=True):
            assert one.is_cuda
            assert torch.allclose(one.cpu(), other, atol=1e-6)


def test_batches_for_a_gpu_come_from_pinned_memory(folder: Path) -> None:
    """From other memory most batches would be those that the workers wrote into it later."""
    loader = train_batches(folder).loader
    assert not loader.pin_memory
    with pytest.raises(ValueError, match="pin_memory"):
        CUDAPrefetcher(loader, MEAN, STD, torch.device("cuda"))


@pytest.mark.parametrize("apply_orientation", [False, True])
def test_camera_orientation_is_applied_on_request(tmp_path: Path, apply_orientation: bool) -> None:
    """To the image and to the place it has in the cache; Pillow's exif_transpose says how it should look."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.effect_noise((40, 30), 90).convert("RGB").save(tmp_path / name / "1.png", exif=exif)
    images = ImageDataset(tmp_path, EVAL, num_classes=2, apply_orientation=apply_orientation)
    cache_images([images], num_processes=1, asked_by="cache_images")
    for index in (0, 1):
        with Image.open(images.path(index)) as stored:
            expected = np.asarray(ImageOps.exif_transpose(stored) if apply_orientation else stored)
        assert expected.shape == ((40, 30, 3) if apply_orientation else (30, 40, 3))
        assert np.array_equal(images.decoded(index), expected)
        assert images.cache.is_filled[index]


def test_too_few_images_for_a_batch_are_named(folder: Path) -> None:
    dataset = ImageDataset(folder, TRAIN, num_classes=3, seed=0)
    with pytest.raises(ValueError, match=r"21 images, fewer than batch_size = 64; lower it"):
        create_batches(dataset, batch_size=64, num_workers=0, mean=MEAN, std=STD, device=torch.device("cpu"))


def test_damaged_image_stops_the_loader_with_its_name(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    bad = tmp_path / "green/001.png"
    bad.write_bytes(bad.read_bytes()[:200])
    for num_workers in (0, 1):
        with pytest.raises(ValueError, match=r"green/001.png: not a readable image"):
            list(batches_of(ImageDataset(tmp_path, EVAL, num_classes=3), num_workers))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_images_are_left_out_of_training_on_request(tmp_path: Path, num_workers: int) -> None:
    write_images(tmp_path, 7)
    whole = train_batches(tmp_path)
    images, targets = epoch_of(whole, 1)  # 5 batches of 4
    order = whole.loader.batch_sampler.order()
    bad = [5, 6, 19]  # places in the order: two of the second batch, one of the last
    for place in bad:
        damage(whole.dataset.path(order[place]))
    skipping = batches_of(ImageDataset(tmp_path, TRAIN, num_classes=3, seed=3, skip_bad=True), num_workers)
    left_images, left_targets = epoch_of(skipping, 1)
    good = [place for place in range(20) if place not in bad]
    assert torch.equal(left_images, images[good])
    assert torch.equal(left_targets, targets[good])
    assert [len(batch) for _, batch in skipping] == [4, 2, 4, 4, 3]


def test_a_batch_of_unreadable_images_stops_training(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    for path in tmp_path.glob("*/*"):
        damage(path)
    for size, message in (
        (4, "fewer than 2 of 4 images of a batch can be read"),
        (1, "the only image of a batch cannot"),
    ):
        with pytest.raises(ValueError, match=message):
            list(batches_of(ImageDataset(tmp_path, TRAIN, num_classes=3, seed=3, skip_bad=True), batch_size=size))


def test_a_pipe_and_a_link_to_nothing_count_as_unreadable(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    os.mkfifo(tmp_path / "red/pipe.png")
    (tmp_path / "red/gone.png").symlink_to("nowhere")
    skipping = ImageDataset(tmp_path, TRAIN, num_classes=3, seed=0, skip_bad=True)
    items = {os.path.basename(skipping.path(index)): skipping[0, index] for index in range(4, 8)}
    assert [name for name, item in items.items() if item is None] == ["gone.png", "pipe.png"]
    with pytest.raises(ValueError, match=r"pipe.png: not a regular file"):
        load_image(tmp_path / "red/pipe.png")


def test_memory_stops_growing_after_the_first_batches(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 64)
    script = """
import sys
from functools import partial
from dataset import ImageDataset, create_batches
from imgproc import eval_transform
from utils import setup_runtime

def resident() -> int:
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmRSS")).split()[1])

def main() -> None:
    device = setup_runtime(0, "cpu")
    images = ImageDataset(sys.argv[1], partial(eval_transform, image_size=224), num_classes=3)
    batches = create_batches(images, batch_size=16, num_workers=2, mean=[0.5] * 3, std=[0.2] * 3, device=device)
    for _ in range(4):
        for _ in batches:
            pass
        print(resident())

main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "images")], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    first, *_, last = map(int, done.stdout.split())
    assert last - first < 3 * 16 * 3 * 224 * 224 * 4  # three batches
