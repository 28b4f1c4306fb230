# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/folder_layouts.py: the folders of well-known public datasets, as people have them after unpacking.

Each tree is small, but the names of its folders are the real ones; what must come of it was decided by looking at it.
"""

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from preparing_runs import assert_refused, call, make_source

from core.split_names import split_names


class Case(NamedTuple):
    """A tree, and what must come of it: classes and lines of the output, or the words of one error."""

    folders: str  # <folder with images>, one a word; "*" is each of `classes`
    classes: str = ""
    options: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # beside the images of the folders


def split(folders: str, classes: str, says: str, *options: str) -> Case:
    return Case(folders, classes, options, (says,))


def refused(folders: str, classes: str, *error: str, options: tuple[str, ...] = ()) -> Case:
    return Case(folders, classes, options, error=error)


LAYOUTS = {
    # taken as they are divided
    "imagenette": split(
        "imagenette2/train/* imagenette2/val/*", "n01440764 n02102040", "imagenette2/val was taken for"
    ),
    "cats and dogs, filtered": split("train/* validation/*", "cats dogs", "validation was taken for valid"),
    "two words": split("train_images/* val_images/*", "cat dog", "train_images was taken for train"),
    "capitals": split("TrainSet/* ValSet/*", "cat dog", "ValSet was taken for valid"),
    "food-11": split(
        "training/* validation/* evaluation/*", "Bread Soup", "validation was taken for valid; left out: evaluation\n"
    ),
    "chest x-ray": split(
        "chest_xray/train/* chest_xray/val/* chest_xray/test/* chest_xray/chest_xray/train/* "
        "chest_xray/chest_xray/val/* chest_xray/__MACOSX/chest_xray/train/*",
        "NORMAL PNEUMONIA",
        "chest_xray/val was taken for valid; left out: chest_xray, test\n",
    ),
    "cifar-100, where train is a class": split(
        "train/* valid/*", "bus road train", "train was taken for train, valid was taken for valid"
    ),
    # divided into train and test
    "intel scenes": split(
        "seg_train/seg_train/* seg_test/seg_test/* seg_pred/seg_pred",
        "forest sea",
        "seg_train/seg_train was taken for train, seg_test/seg_test was taken for valid, as --test-as-valid asks; left "
        "out: seg_pred (no class folders)",
        "--test-as-valid",
    ),
    "intel scenes, without the option": refused(
        "seg_train/seg_train/* seg_test/seg_test/* seg_pred/seg_pred",
        "forest sea",
        "holds seg_train and seg_test, and nothing to validate on; --test-as-valid takes seg_test",
        "source/seg_train divides the training images by --valid-share",
    ),
    "cat and dog": split(
        "training_set/training_set/* test_set/test_set/*", "cats dogs", "test_set/test_set was", "--test-as-valid"
    ),
    "brain tumor": split("Training/* Testing/*", "glioma pituitary", "Testing was taken for valid", "--test-as-valid"),
    "fruits-360": split(
        "fruits-360/Training/* fruits-360/Test/* fruits-360/test-multiple_fruits fruits-360/papers",
        "Apple Kiwi",
        "left out: papers (no class folders), test-multiple_fruits (no class folders)",
        "--test-as-valid",
    ),
    "chest x-ray with the option": refused(
        "train/* val/* test/*", "NORMAL PNEUMONIA", "val is there to validate on", options=("--test-as-valid",)
    ),
    "the option without a test": refused("*", "a b", "no folder in it is called test", options=("--test-as-valid",)),
    # to be divided by the share
    "flowers": split("flower_photos/*", "daisy rose", "the class folders are those in flower_photos: 'daisy', 'rose'"),
    "food-101": Case("food-101/images/*", "pizza sushi", files=("food-101/meta/train.txt",), says=("1 .txt",)),
    "stanford dogs": Case(
        "images/Images/*",
        "n02085620-Chihuahua n02113978-Mexican_hairless",
        files=("annotations/Annotation/n02085620/n1",),
    ),
    "asirra": Case("PetImages/*", "Cat Dog", files=("readme[1].txt", "PetImages/Cat/Thumbs.db"), says=("1 .txt",)),
    "dataset/dataset": split("dataset/dataset/*", "O R", "those in dataset/dataset: 'O', 'R'"),
    "gtsrb": split(
        "Train/* Test Meta", "0 1 10", "Train was taken for the whole and divided by the share; left out: Meta"
    ),
    "names that only sound like splits": Case("*", "train_station test_tube valid_ticket"),
    "rose/garden": Case("* rose/garden rose/garden/old", "daisy rose"),
    # doubtful
    "gtsrb, twice": refused("Train/* train/*", "0 1", "Train and train are both called train; move one away"),
    "dogs-vs-cats": refused("train test1", "", "'test1', 'train' hold images, but not two class folders"),
    "plant-village": refused(
        "plantvillage/color/* plantvillage/grayscale/*", "Apple Corn", "'color', 'grayscale' all hold"
    ),
    "flowers-recognition": refused(
        "flowers/* flowers/flowers/*", "daisy rose", "'flowers' holds 'daisy', 'rose', which"
    ),
    "rock-paper-scissors": refused(
        "* rps-cv-images/*", "paper rock", "'rps-cv-images' holds 'paper', 'rock', which lie"
    ),
    "rps": refused(
        "rps/rps/* rps-test-set/rps-test-set/*", "paper rock", "'rps-test-set' called like a split beside 'rps'"
    ),
    "google images": refused("cat *", "New#folder New#folder#(2)", "'New folder', 'New folder (2)' beside 'cat' is no"),
    "a test beside classes": refused("cat dog test", "", "'test' called like a split beside 'cat', 'dog': if it is a"),
    "a test of classes beside them": refused("* test/*", "cat dog", "'test' called like a split beside 'cat', 'dog'"),
    "a train of classes beside them": refused("* train/*", "cat dog", "'cat', 'dog' beside train and in it too"),
    "a class called train": refused("bus train", "", "'train' called like a split beside 'bus'", "'train class'"),
    "classes that are divided": refused(
        "*/train */test", "cat dog", "holds the splits 'test', 'train'", "train/cat/..."
    ),
    "two datasets": refused(
        "one/train/* one/test/* two/images", "a b", "'one' beside 'two' holds the splits", "--source"
    ),
    "cub-200": refused(
        "images/* segmentations/*", "001.Albatross 002.Gull", "'images' beside 'segmentations' is no name"
    ),
    "oxford pets": refused("images annotations/trimaps", "", "'annotations', 'images'", "is no name of a class"),
    "yolo": refused("images/train images/val", "", "'train', 'val' hold images, but not two class folders"),
    "yolo, another way": refused("train/images valid/images", "", "'train', 'valid' hold images, but not two class"),
    "train in train": refused("train/train/* train/val/* valid/*", "a b", "train: holds 'train', 'val': if that is a"),
    "valid without classes": refused("train/* val", "a b", "what is 'val' beside train?", "call it valid and give it"),
    "what is not called a split": refused("train/* holdout/*", "a b", "what is 'holdout' beside train?"),
    "one class": refused("photos/a", "", "holds only one class folder, 'a'"),
    "no class": refused("", "", "holds images, but no class folders"),
}


def files_of(case: Case) -> dict[str, bytes]:
    """Two images in each folder, different in each."""
    folders = [
        pattern.replace("*", name.replace("#", " "))
        for pattern in case.folders.split() or ["."]
        for name in (case.classes.split() if "*" in pattern else [""])
    ]
    images = {f"{folder}/{number}.jpg": f"{folder} {number}".encode() for folder in folders for number in range(2)}
    return images | dict.fromkeys(case.files, b"text")


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_of_public_datasets(name: str, tmp_path: Path) -> None:
    case = LAYOUTS[name]
    source = make_source("folder", tmp_path, files_of(case))
    result = call("folder", "--source", source, "--target", tmp_path / "X", *case.options)
    if case.error:
        assert_refused(result, f"{source}: ", *case.error)
        assert sorted(os.listdir(tmp_path)) == ["source"]
        return
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("train", "valid"):
        assert sorted(os.listdir(tmp_path / "X" / part)) == sorted(case.classes.split())
    for words in case.says:
        assert words in result.stdout


def test_archive_is_understood_like_a_folder(tmp_path: Path) -> None:
    files = files_of(LAYOUTS["intel scenes"])
    source = make_source("zip", tmp_path, {f"archive/{name}": data for name, data in files.items()})
    arguments = ["folder", "--source", source, "--target", tmp_path / "X"]
    assert_refused(call(*arguments), "--test-as-valid takes seg_test", "unpack it, and --source .../seg_train")
    output = call(*arguments, "--test-as-valid").stdout
    assert "archive/seg_test/seg_test was taken for valid" in output
    taken = {path.read_bytes() for path in (tmp_path / "X").glob("*/*/*.jpg")}
    assert taken == {data for name, data in files.items() if "pred" not in name}
    assert "left out 2 images outside class folders" in output


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("train valid test", "train valid test"),
        ("TRAIN Validation testing", "train valid test"),
        ("train2017 val2017", "train valid"),
        ("Fruit_train Fruit_val Fruit_test", "train valid test"),
        ("training-images imagesTest", "train test"),
        ("train_val", ""),
        ("bullet_train steam_train", ""),
        ("training_shoes Testament trainer", ""),
        ("train_кот", ""),
        ("ILSVRC2012_img_train ILSVRC2012_img_val", "train valid"),
        ("bullet_train protest value contest valley tester devil set data images 0 n01440764", ""),
    ],
)
def test_spellings_of_splits(names: str, splits: str) -> None:
    assert list(split_names(names.split()).values()) == splits.split()


def test_option_goes_with_folder_only(tmp_path: Path) -> None:
    assert_refused(call("digits", "--target", tmp_path / "X", "--test-as-valid"), "--test-as-valid: goes with folder")
