# SPDX-License-Identifier: Apache-2.0
"""The index file of a folder."""

import os
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from image_folders import make_tree

from core import image_index
from core.image_index import Index, index_path, read_index, write_index
from dataset import (
    ImageDataset,
)
from imgproc import eval_transform
from shared.small_training import write_images

EVAL = partial(eval_transform, image_size=32)


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
    scan = image_index.scan_folder

    def add_and_scan(root: str) -> Index:
        index = scan(root)
        (indexed_folder / "red/deeper").mkdir()
        return index

    monkeypatch.setattr(image_index, "scan_folder", add_and_scan)
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
        "folders": image_index.to_bytes(folders),
        "changed": image_index.change_times(root, folders),
        "suffixes": image_index.SUFFIXES,
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
    arrays |= {"classes": image_index.to_bytes(folders[1:]), "counts": np.array(counts)}  # in the order of text
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
