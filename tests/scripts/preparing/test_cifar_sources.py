# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/cifar_sources.py: CIFAR from class folders, and from its batches."""

import hashlib
import os
import pickle
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from preparing_runs import (
    CLASSES,
    add_to_tar,
    assert_refused,
    call,
    config_line,
    images_of,
    make,
    make_source,
    pixels_of,
    small_cifar10,
)


@pytest.fixture
def images() -> dict[str, bytes]:
    return small_cifar10()


@pytest.mark.parametrize(
    ("kind", "top"), [("folder", ""), ("folder", "top/"), ("tar", "./"), ("tar.gz", "CIFAR10/"), ("zip", "")]
)
def test_class_folders_are_copied_byte_for_byte(kind: str, top: str, tmp_path: Path, images: dict[str, bytes]) -> None:
    others = {"README.md": b"text", "train/.hidden.jpg": b"x", "train/cat/._0001.jpg": b"x", "train/cat/cat.txt": b"x"}
    files = {f"{top}{name}": data for name, data in {**others, **images}.items()}
    source = make_source(kind, tmp_path, files)
    result = call("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert (result.returncode, result.stderr) == (0, "")
    assert os.listdir(tmp_path / "out") == ["CIFAR10"]
    assert images_of(tmp_path / "out" / "CIFAR10") == images
    rows = [line.split()[:4] for line in result.stdout.splitlines()]
    for split in ("train", "valid"):
        data = [data for name, data in images.items() if name.startswith(split)]
        assert [split, "10", str(len(data)), f"{sum(map(len, data)):,}"] in rows
    assert "50,000" in result.stdout and "10,000" in result.stdout  # says that this is not all of CIFAR-10


def test_images_that_are_left_out_are_counted(tmp_path: Path, images: dict[str, bytes]) -> None:
    source = make_source("zip", tmp_path, {**images, "test/cat/1.png": b"x", "train/cat/more/2.png": b"x"})
    result = call("cifar10", "--source", source, "--target", tmp_path / "CIFAR10")
    assert result.returncode == 0, result.stderr
    assert f"{source}: left out 2 images" in result.stdout
    assert images_of(tmp_path / "CIFAR10") == images


BAD_SETS = {
    "no-such-class": ({"train/lion/1.png": b"x"}, (), ["train/lion/1.png"]),
    "class-missing": ({}, ("valid/ship/0000.jpg", "valid/ship/0001.png"), ["ship", "valid"]),
    "two-datasets": ({"other/train/cat/1.png": b"x"}, (), ["two datasets", "'other'"]),
    "both-kinds": ({"cifar-10-batches-py/data_batch_1": b"x"}, (), ["both"]),
}


@pytest.mark.parametrize("name", BAD_SETS)
def test_folders_that_are_not_the_dataset_are_refused(name: str, tmp_path: Path, images: dict[str, bytes]) -> None:
    added, removed, words = BAD_SETS[name]
    files = {**{name: data for name, data in images.items() if name not in removed}, **added}
    source = make_source("tar", tmp_path, files)
    result = call("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert result.stderr.count("\n") == 1 and result.returncode == 2
    for word in (source, *words):
        assert str(word) in result.stderr
    assert os.listdir(tmp_path) == [source.name]


def test_name_twice_in_an_archive_is_refused(tmp_path: Path, images: dict[str, bytes]) -> None:
    source = make_source("tar", tmp_path, images)
    with tarfile.open(source, "a") as archive:
        add_to_tar(archive, "train/cat/0000.jpg", b"another")
    result = call("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert_refused(result, f"{source}: holds 'train/cat/0000.jpg' twice")
    assert os.listdir(tmp_path) == [source.name]


class MakesFolder:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_pickle_that_is_not_the_published_one_is_never_read(tmp_path: Path) -> None:
    control, trap = tmp_path / "control", tmp_path / "trap"
    pickle.loads(pickle.dumps(MakesFolder(control)))
    assert control.is_dir()  # so that `trap` would exist as well
    source = tmp_path / "cifar-10-python.tar.gz"
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta", "readme.html"]
    with tarfile.open(source, "w:gz") as archive:
        for name in names:
            add_to_tar(archive, f"cifar-10-batches-py/{name}", pickle.dumps(MakesFolder(trap)))
    result = call("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert_refused(result, source, "cifar-10-batches-py/data_batch_1")
    assert sorted(os.listdir(tmp_path)) == [source.name, "control"]


class Cifar(NamedTuple):
    """A small CIFAR in its published form, whose checksums torchvision is told."""

    folder: Path
    expected: dict[str, np.ndarray]


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Cifar]:
    from torchvision import datasets

    is_10 = request.param == "cifar10"
    published = datasets.CIFAR10 if is_10 else datasets.CIFAR100
    classes = CLASSES if is_10 else [f"fine_{number:02d}" for number in range(100)]
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (200, 3072), dtype=np.uint8)  # 1,024 red values, then green, then blue
    labels = [(3 * place + 1) % len(classes) for place in range(200)]
    train = {f"data_batch_{number + 1}": slice(20 * number, 20 * number + 20) for number in range(5)}
    parts = {**train, "test_batch": slice(100, 200)} if is_10 else {"train": slice(0, 100), "test": slice(100, 200)}
    folder = tmp_path / ("cifar-10-batches-py" if is_10 else "cifar-100-python")
    folder.mkdir()
    for name, part in parts.items():
        batch = {"data": pixels[part], "labels" if is_10 else "fine_labels": labels[part], "coarse_labels": [0] * 100}
        (folder / name).write_bytes(pickle.dumps(batch))
    meta, key = ("batches.meta", "label_names") if is_10 else ("meta", "fine_label_names")
    (folder / meta).write_bytes(pickle.dumps({key: list(classes)}))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(published, "train_list", [[name, sums[name]] for name in list(parts)[:-1]])
    monkeypatch.setattr(published, "test_list", [[name, sums[name]] for name in list(parts)[-1:]])
    monkeypatch.setattr(published, "meta", {"filename": meta, "key": key, "md5": sums[meta]})
    expected = {}
    for place in range(200):
        split, number = ("train", place) if place < 100 else ("valid", place - 100)
        rows = np.array([pixels[place, [at, 1024 + at, 2048 + at]] for at in range(1024)])
        expected[f"{split}/{classes[labels[place]]}/{number:05d}.png"] = rows.reshape(32, 32, 3)
    return request.param, Cifar(folder, expected)


@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_batches_become_png_files_of_their_classes(kind: str, cifar: tuple[str, Cifar], tmp_path: Path) -> None:
    name, (folder, expected) = cifar
    source = folder
    if kind == "tar.gz":
        files = {f"{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}
        source = make_source(kind, tmp_path, {**files, f"{folder.name}/readme.html": b"text"})
    output = make(name, "--source", source, "--target", tmp_path / "out")
    found = pixels_of(images_of(tmp_path / "out"), "RGB")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[file], pixels) for file, pixels in expected.items())
    assert config_line("model_num_classes", 10 if name == "cifar10" else 100) in output.splitlines()


def test_batch_that_is_missing_is_named(cifar: tuple[str, Cifar], tmp_path: Path) -> None:
    name, (folder, _) = cifar
    sorted(folder.iterdir())[-1].unlink()
    result = call(name, "--source", folder, "--target", tmp_path / "out")
    assert_refused(result, folder, "missing", "https://www.cs.toronto.edu/~kriz/")
    assert os.listdir(tmp_path) == [folder.name]
