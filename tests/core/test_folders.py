# SPDX-License-Identifier: Apache-2.0
"""Which folders are classes, and what is said of those that are not."""

import os
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from image_folders import make_tree

from core import folders
from core.folders import describe_order, list_classes
from core.image_index import read_index, write_index
from core.image_names import IMAGE_SUFFIXES, describe_left_out
from dataset import (
    ImageDataset,
)
from imgproc import eval_transform
from shared.small_training import write_images

EVAL = partial(eval_transform, image_size=32)


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
    assert folders.shorten(names) == "a, 'b\\nc', '\\udcff' ..."
    assert folders.shorten(["\u732b", "d"]) == "\u732b, d"


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
        assert note.endswith("; the names of images end in " + ", ".join(IMAGE_SUFFIXES))


def test_many_kinds_that_are_left_out_take_one_line() -> None:
    left_out = Counter({f".{letter}": 9 for letter in "abcdefgh"} | {".jpg.bak": 1200})
    assert describe_left_out(left_out) == "1,200 .jpg.bak, 9 .a, 9 .b, 9 .c, 9 .d, 9 .e, 27 of 3 other kinds"


def test_a_class_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    root = make_tree(tmp_path, "cat/1.png", "dog/1.cr2", "dog/2.cr2")
    with pytest.raises(FileNotFoundError, match=r"/dog: no images \(.*\), but 2 .cr2 \(camera raw: export as JPEG\);"):
        ImageDataset(root, EVAL, num_classes=2)


@pytest.mark.parametrize("target", [".", ".."])
def test_a_link_back_to_a_folder_above_is_named(tmp_path: Path, target: str) -> None:
    write_images(tmp_path, 2)
    (tmp_path / "red/loop").symlink_to(target)
    with pytest.raises(ValueError, match=r"red.*: leads back to a folder above it; remove the link"):
        ImageDataset(tmp_path, EVAL, num_classes=3)
