# SPDX-License-Identifier: Apache-2.0
"""From a folder to batches: which images, in which order, with which random numbers."""

import contextlib
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder

import dataset
from dataset import (
    CPUPrefetcher,
    CUDAPrefetcher,
    EpochSampler,
    ImageDataset,
    Index,
    cache_images,
    create_batches,
    create_generator,
    describe_left_out,
    describe_order,
    free_memory,
    index_path,
    list_classes,
    read_index,
    write_index,
)
from imgproc import eval_transform, load_image, train_transform
from shared.small_training import CLASSES, write_images

EVAL = partial(eval_transform, image_size=32)
TRAIN = partial(
    train_transform,
    image_size=32,
    crop_scale=(0.2, 1.0),
    flip_probability=0.5,
    trivial_augment=True,
    erasing_probability=0.5,
    erasing_value=(1, 2, 3),
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 classes x 7 images."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 7)
    return folder


def train_batches(folder: Path, num_workers: int = 0, seed: int = 3) -> CPUPrefetcher:
    dataset = ImageDataset(folder, TRAIN, num_classes=3, seed=seed)
    return batches_of(dataset, num_workers)


def batches_of(dataset: ImageDataset, num_workers: int = 0) -> CPUPrefetcher:
    return create_batches(
        dataset, batch_size=4, num_workers=num_workers, mean=MEAN, std=STD, device=torch.device("cpu")
    )


def each_batch(batches: CPUPrefetcher, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batches.set_epoch(epoch)
    return list(batches)


def epoch_of(batches: CPUPrefetcher, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and targets of one epoch."""
    images, targets = zip(*each_batch(batches, epoch), strict=True)
    return torch.cat(images), torch.cat(targets)


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


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; data/README.md"):
        ImageDataset(tmp_path / "nowhere", EVAL, num_classes=3)


def test_folder_without_class_folders_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no class folders; expected .*<class>/<image>"):
        ImageDataset(tmp_path, EVAL, num_classes=3)


def test_class_folder_without_images_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    (tmp_path / "violet").mkdir()
    with pytest.raises(FileNotFoundError, match=r"/violet: no images"):
        ImageDataset(tmp_path, EVAL, num_classes=4)


def test_wrong_number_of_classes_is_named(folder: Path) -> None:
    question = (
        r"3 class folders \(blue, green, red\), but model_num_classes = 10; are these the classes\? If so, set it to 3"
    )
    with pytest.raises(ValueError, match=question):
        ImageDataset(folder, EVAL, num_classes=10)


def test_other_classes_than_in_training_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"missing \['cyan'\], unknown \['blue'\]"):
        ImageDataset(folder, EVAL, num_classes=3, classes=["cyan", "green", "red"])


def make_tree(root: Path, *names: str) -> Path:
    """Empty files, with the folders they need."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([str(n) for n in range(12)], [str(n) for n in range(12)]),
        ([str(n) for n in range(1, 13)], [str(n) for n in range(1, 13)]),
        ([f"{n:02}" for n in range(12)], [f"{n:02}" for n in range(12)]),
        # not just these numbers: 2 to 13, without 5, with a word, written otherwise
        ([str(n) for n in range(2, 14)], ["10", "11", "12", "13", *"23456789"]),
        ([str(n) for n in range(12) if n != 5], ["0", "1", "10", "11", *"2346789"]),
        ([*map(str, range(11)), "x"], ["0", "1", "10", *"23456789", "x"]),
        (["00", *map(str, range(1, 11))], ["00", "1", "10", *"23456789"]),
        (["\u0661", "0", "2"], ["0", "2", "\u0661"]),  # an Arabic 1
    ],
)
def test_folders_named_by_numbers_come_in_the_order_of_the_numbers(
    tmp_path: Path, names: list[str], expected: list[str]
) -> None:
    root = make_tree(tmp_path, *(f"{name}/{name}.png" for name in names))
    images = ImageDataset(root, EVAL, num_classes=len(names))
    assert list_classes(str(root)) == images.classes == expected
    assert images.targets.tolist() == list(range(len(names)))
    assert [Path(images.path(index)).stem for index in range(len(images))] == expected
    line = f"class folders {expected[0]} ... {expected[-1]} are taken in the order of their numbers"
    notes = [f"{root}: {line}"] if expected != sorted(names) else []
    assert images.notes == notes
    assert describe_order(expected) == (line if notes else "")


def test_classes_are_found_by_name_where_names_are_given(tmp_path: Path) -> None:
    root = make_tree(tmp_path, "cat/1.png", "dog/1.png", "dog/2.png")
    images = ImageDataset(root, EVAL, num_classes=4, classes=["dog", "ant", "cat", "bee"], may_lack_classes=True)
    assert images.targets.tolist() == [2, 0, 0]
    assert images.classes == ["dog", "ant", "cat", "bee"]
    assert [os.path.relpath(images.path(index), root) for index in range(3)] == ["cat/1.png", "dog/1.png", "dog/2.png"]
    assert images.notes == [f"{root}: 2 of the weights' 4 classes have images here; 2 without: ant, bee"]
    with pytest.raises(ValueError, match=r"missing \['ant', 'bee'\], unknown \[\]"):
        ImageDataset(root, EVAL, num_classes=4, classes=["dog", "ant", "cat", "bee"])
    with pytest.raises(ValueError, match=r"missing \['ant'\], unknown \['cat'\] \(1 and 1 in all\)"):
        ImageDataset(root, EVAL, num_classes=2, classes=["dog", "ant"], may_lack_classes=True)


@pytest.mark.parametrize(
    ("files", "num_classes", "message"),
    [
        (
            ["photos/cat/1.png", "photos/dog/1.png"],
            1,
            r"one class folder, photos, .*\(the folders in photos are cat, dog",
        ),
        (
            ["cat/1.png"],
            1,
            r"one class folder, cat, and a classifier needs two; is this the folder above the class folde",
        ),
        (
            ["seg_train/cat/1.png", "seg_test/dog/1.png"],
            2,
            r"splits .*\(seg_test, seg_train: not .* in seg_test are dog\)",
        ),
        (
            ["seg_train/cat/1.png", "seg_test/dog/1.png"],
            6,
            r"\(seg_test, seg_train: not names .*\)\? If so, set it to 2",
        ),
        (
            ["cat/1.png", "dog/1.png", "test/cat/2.png"],
            3,
            r"splits among the class folders \(test: not names of classes",
        ),
        (
            ["cat/1.png", "New folder/1.png"],
            3,
            r"are these the classes \(New folder: not names of .*\)\? If so, set it to 2",
        ),
    ],
)
def test_the_folder_above_the_class_folders_is_not_taken(
    tmp_path: Path, files: list[str], num_classes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageDataset(make_tree(tmp_path, *files), EVAL, num_classes=num_classes)


def test_names_in_a_line_are_shortened_and_can_be_printed() -> None:
    names = ["a", "b\nc", os.fsdecode(b"\xff"), "d"]
    assert dataset.shorten(names) == "a, 'b\\nc', '\\udcff' ..."
    assert dataset.shorten(["\u732b", "d"]) == "\u732b, d"


def test_one_class_called_like_a_split_is_pointed_out(tmp_path: Path) -> None:
    """CIFAR-100 has a class train."""
    root = make_tree(tmp_path, "bus/1.png", "tank/1.png", "train/1.png")
    assert ImageDataset(root, EVAL, num_classes=3).notes == [
        f"{root}: train is taken for a class; if it is none, move it elsewhere"
    ]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    files = ["1.png", "2.JPG.download", "deep/3.jpg.download", "4.TXT", "5", "6.JPG", "7.cr2", "a. sentence"]
    root = make_tree(tmp_path / "x", *(f"{name}/{file}" for name in ("cat", "dog") for file in files))
    make_tree(root, "cat/Thumbs.db", "cat/.8.txt", "dog/.hidden/9.txt", "dog/desktop.ini", "stray.png", "notes.txt")
    expected = {".jpg.download": 4, "": 4, ".txt": 2, ".cr2": 2}
    listed = ImageDataset(root, EVAL, num_classes=2)
    write_index(root)
    indexed = ImageDataset(root, EVAL, num_classes=2)
    assert read_index(root) is not None
    for images in (listed, indexed):
        assert len(images) == 4
        assert {kind: count for kind, count in images.left_out.items() if "outside" not in kind} == expected
        (note,) = images.notes
        assert note.startswith(
            f"{root}: left out 4 without a suffix (images need one, such as .jpg), 4 .jpg.download ("
        )
        assert "2 .cr2 (camera raw: export as JPEG), 2 .txt, 1 outside the class folders (move each" in note
        assert note.endswith("; the names of images end in " + ", ".join(dataset.IMAGE_SUFFIXES))


def test_many_kinds_that_are_left_out_take_one_line() -> None:
    left_out = Counter({f".{letter}": 9 for letter in "abcdefgh"} | {".jpg.bak": 1200})
    assert describe_left_out(left_out) == "1,200 .jpg.bak, 9 .a, 9 .b, 9 .c, 9 .d, 9 .e, 27 of 3 other kinds"


def test_a_class_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    root = make_tree(tmp_path, "cat/1.png", "dog/1.cr2", "dog/2.cr2")
    with pytest.raises(FileNotFoundError, match=r"/dog: no images \(.*\), but 2 .cr2 \(camera raw: export as JPEG\);"):
        ImageDataset(root, EVAL, num_classes=2)


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


def damage(path: str | Path) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:200])


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
    with pytest.raises(ValueError, match=r"fewer than 2 of 4 images of a batch can be read"):
        list(batches_of(ImageDataset(tmp_path, TRAIN, num_classes=3, seed=3, skip_bad=True)))


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


def test_a_cache_cannot_be_sent_to_a_spawned_worker(even_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"cache_images = True needs workers that can be forked"):
        pickle.dumps(cached(even_folder))


def files_of(root: Path) -> list[str]:
    dataset = ImageDataset(root, EVAL, num_classes=len(list(root.iterdir())))
    return [dataset.path(index) for index in range(len(dataset))]


@pytest.fixture
def indexed_folder(tmp_path: Path) -> Path:
    """3 classes x 7 images, some in a deeper folder and with odd names, and an index file that is current."""
    root = tmp_path / "images"
    write_images(root, 7)
    (root / "red/deep").mkdir()
    for name in ("red/deep/a b.png", "red/deep/\u00fc.jpeg", os.fsdecode(b"red/\xff\n.png")):
        (root / name).write_bytes(b"")
    write_index(root)
    return root


def test_index_file_gives_the_dataset_that_listing_gives(indexed_folder: Path) -> None:
    from_index = ImageDataset(indexed_folder, EVAL, num_classes=3)
    index_path(indexed_folder).unlink()
    listed = ImageDataset(indexed_folder, EVAL, num_classes=3)
    assert from_index.targets.tolist() == listed.targets.tolist() == [0] * 7 + [1] * 7 + [2] * 10
    paths = [[dataset.path(index) for index in range(24)] for dataset in (from_index, listed)]
    assert paths[0] == paths[1]
    assert set(paths[0]) == {str(path) for path in indexed_folder.rglob("*.*")}


def test_index_file_saves_listing_the_class_folders(indexed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "walk", None)
    assert len(ImageDataset(indexed_folder, EVAL, num_classes=3)) == 24


def test_index_file_lies_next_to_the_folder(indexed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(os.listdir(indexed_folder.parent)) == ["images", "images.index.npz"]
    monkeypatch.chdir(indexed_folder)
    assert read_index(".") is not None
    assert read_index(f"{indexed_folder}/") is not None


def add_class(root: Path) -> None:
    (root / "violet").mkdir()
    (root / "violet/1.png").write_bytes(b"")


def swap_classes(root: Path) -> None:
    for name, other in (("red", "x"), ("blue", "red"), ("x", "blue")):
        (root / name).rename(root / other)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "red/new.png").write_bytes(b""),
        lambda root: (root / "red/deep/new.png").write_bytes(b""),
        lambda root: (root / "red/000.png").unlink(),
        lambda root: (root / "red/000.png").rename(root / "red/other.png"),
        lambda root: (root / "red/000.png").rename(root / "blue/other.png"),
        lambda root: (root / "red/deep").rename(root / "blue/deep"),
        lambda root: (root / "red").rename(root / "scarlet"),
        swap_classes,
        add_class,
    ],
    ids=["add", "add deep", "remove", "rename", "move", "move folder", "rename class", "swap classes", "add class"],
)
def test_index_file_of_a_folder_that_changed_is_ignored(indexed_folder: Path, change: Callable[[Path], None]) -> None:
    change(indexed_folder)
    assert read_index(indexed_folder) is None
    found = files_of(indexed_folder)
    assert sorted(found) == sorted(str(path) for path in indexed_folder.rglob("*.*"))


def test_a_change_with_the_old_times_is_noticed(indexed_folder: Path) -> None:
    """As tools leave it that copy or restore files with their times."""
    status = (indexed_folder / "red").stat()
    (indexed_folder / "red/new.png").write_bytes(b"")
    os.utime(indexed_folder / "red", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read_index(indexed_folder) is None


@pytest.mark.parametrize("place", ["red/more", "violet"])
def test_no_index_where_a_link_leads_nowhere(indexed_folder: Path, place: str) -> None:
    """What it leads to can appear without a change of any folder here."""
    index_path(indexed_folder).unlink()
    (indexed_folder / place).symlink_to(indexed_folder.parent / "later")
    write_index(indexed_folder)
    assert not index_path(indexed_folder).exists()


def test_no_index_of_a_folder_that_is_changing(indexed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_path(indexed_folder).unlink()
    scan = dataset.scan_folder

    def add_and_scan(root: str) -> Index:
        index = scan(root)
        (indexed_folder / "red/deeper").mkdir()
        return index

    monkeypatch.setattr(dataset, "scan_folder", add_and_scan)
    write_index(indexed_folder)
    assert not index_path(indexed_folder).exists()


def test_damaged_index_file_is_ignored(indexed_folder: Path) -> None:
    path = index_path(indexed_folder)
    data = path.read_bytes()
    expected = files_of(indexed_folder)
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        assert read_index(indexed_folder) is None
    for place in range(0, len(data), 61):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert files_of(indexed_folder) == expected, place


def test_index_file_of_the_first_version_is_ignored(tmp_path: Path) -> None:
    """It had the counts of classes 0 to 10 in the order of text: 0, 1, 10, 2, ...; its file said so nowhere."""
    root = make_tree(tmp_path / "x", *(f"{name}/{image}.png" for name in range(11) for image in range(name + 1)))
    counts = [int(name) + 1 for name in sorted(map(str, range(11)))]
    folders = [b".", *(name.encode() for name in sorted(map(str, range(11))))]
    arrays = {
        "counts": np.array(counts),
        "lengths": np.full(sum(counts), 5, np.uint16),
        "names": np.frombuffer(
            b"".join(b"%d.png" % image for count in counts for image in range(min(count, 10))), "u1"
        ),
        "folders": dataset.to_bytes(folders),
        "changed": dataset.change_times(root, folders),
        "suffixes": dataset.SUFFIXES,
    }
    with index_path(root).open("wb") as file:
        np.savez(file, **arrays)
    assert read_index(root) is None
    assert np.bincount(ImageDataset(root, EVAL, num_classes=11).targets).tolist() == list(range(1, 12))
    write_index(root)
    assert read_index(root).counts.tolist() == list(range(1, 12))
    with np.load(index_path(root)) as written:
        arrays = dict(written)
    assert "suffixes" not in arrays  # so that the first version ignores it in turn
    arrays |= {"classes": dataset.to_bytes(folders[1:]), "counts": np.array(counts)}  # in the order of text
    with index_path(root).open("wb") as file:
        np.savez(file, **arrays)
    assert np.bincount(ImageDataset(root, EVAL, num_classes=11).targets).tolist() == list(range(1, 12))


def test_index_file_that_would_run_code_is_ignored(indexed_folder: Path, tmp_path: Path) -> None:
    with index_path(indexed_folder).open("wb") as file:
        np.savez(file, counts=np.array([WritesFile(tmp_path / "evil")], dtype=object))
    assert read_index(indexed_folder) is None
    assert not (tmp_path / "evil").exists()


class WritesFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_names_of_imagenet_take_less_than_150_mb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,281,167 names like n01440764_10026.JPEG, of 20 bytes: 26 MB, and 8 + 4 bytes each for place and class."""
    images = 1_281_167
    classes = ["n01440764", "n01443537"]
    for name in classes:
        (tmp_path / name).mkdir()
    lengths, names = np.full(images, 20, np.uint16), np.zeros(20 * images, np.uint8)
    index = Index(classes, np.array([1300, images - 1300]), lengths, names, Counter())
    monkeypatch.setattr("dataset.read_index", lambda root: index)
    tracemalloc.start()
    dataset = ImageDataset(tmp_path, EVAL, num_classes=2)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(dataset) == images
    assert grown + index.names.nbytes < 150e6
    assert len(pickle.dumps(dataset)) < 150e6


@pytest.mark.parametrize("target", [".", ".."])
def test_a_link_back_to_a_folder_above_is_named(tmp_path: Path, target: str) -> None:
    write_images(tmp_path, 2)
    (tmp_path / "red/loop").symlink_to(target)
    with pytest.raises(ValueError, match=r"red.*: leads back to a folder above it; remove the link"):
        ImageDataset(tmp_path, EVAL, num_classes=3)


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
