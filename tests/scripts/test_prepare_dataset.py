# SPDX-License-Identifier: Apache-2.0
"""scripts/prepare_dataset.py, run as a user runs it, and the files of data/."""

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image
from preparing_runs import (
    MADE,
    SCRIPT,
    assert_refused,
    call,
    config_line,
    contents,
    flower_photos,
    images_of,
    make,
    make_source,
    run,
    times,
)

from preparing import datasets


@pytest.fixture
def flowers() -> dict[str, bytes]:
    return flower_photos()


# Digits


@pytest.fixture(scope="module")
def digit_lines() -> list[list[int]]:
    """The 1,797 lines: 64 values and the class."""
    with gzip.open(ROOT / "data" / "digits.csv.gz", "rt") as file:
        return [[int(value) for value in line] for line in csv.reader(file)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A repository in which the script was run from elsewhere without options: script, result, standard output."""
    root = tmp_path_factory.mktemp("repository")
    (root / "data").mkdir()
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("config.py", "dataset.py", "imgproc.py"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "core", root / "core")
    shutil.copy(ROOT / "data" / "digits.csv.gz", root / "data")
    script = root / "scripts" / SCRIPT.name
    result = run("digits", script=script, folder=Path("/"))
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(os.listdir(root / "data")) == ["Digits", "digits.csv.gz"]
    return script, root / "data" / "Digits", result.stdout


def test_digits_file_is_the_published_test_set(digit_lines: list[list[int]]) -> None:
    # The counts per class of optdigits.names, E. Alpaydin, C. Kaynak (1998).
    published = dict(enumerate((178, 182, 177, 183, 181, 182, 181, 179, 174, 180)))
    assert Counter(line[64] for line in digit_lines) == published


def test_digits_has_the_stated_numbers_in_every_class(
    digits: tuple[Path, Path, str], digit_lines: list[list[int]]
) -> None:
    _, target, _ = digits
    assert set(os.listdir(target)) == {"train", "valid", *MADE}
    files = {split: Counter(path.parent.name for path in target.glob(f"{split}/*/*")) for split in ("train", "valid")}
    assert [files[split].total() for split in ("train", "valid")] == [1437, 360]
    totals = Counter(str(line[64]) for line in digit_lines)
    assert files["train"] + files["valid"] == totals
    for name, total in totals.items():
        assert abs(files["valid"][name] - total / 5) < 1


def test_digits_pictures_are_the_lines_they_are_named_after(
    digits: tuple[Path, Path, str], digit_lines: list[list[int]]
) -> None:
    _, target, _ = digits
    paths = sorted(target.glob("*/*/*"), key=lambda path: path.name)
    assert [path.name for path in paths] == [f"{number:04d}.png" for number in range(1, 1798)]
    for path, line in zip(paths, digit_lines, strict=True):
        assert path.parent.name == str(line[64])
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (8, 8))
            # Round half up in whole numbers: 8 * 255 / 16 = 127.5 is 128.
            assert list(image.tobytes()) == [(value * 255 * 2 + 16) // 32 for value in line[:64]]


def test_digits_split_is_every_fifth_line_of_those_sorted_by_class(
    digits: tuple[Path, Path, str], digit_lines: list[list[int]]
) -> None:
    _, target, _ = digits
    numbers = sorted(range(1, 1798), key=lambda number: (digit_lines[number - 1][64], number))
    assert {path.stem for path in target.glob("valid/*/*")} == {f"{number:04d}" for number in numbers[::5]}


def test_digits_ends_with_the_table_and_the_config_lines(digits: tuple[Path, Path, str]) -> None:
    _, target, output = digits
    size = {split: sum(path.stat().st_size for path in target.glob(f"{split}/*/*")) for split in ("train", "valid")}
    rows = [line.split() for line in output.splitlines()]
    train, valid = (next(row for row in rows if row[:1] == [split]) for split in ("train", "valid"))
    # Class 8 is the rarest with 174 lines, class 3 the most frequent with 183.
    assert train == ["train", "10", "1,437", f"{size['train']:,}", "8", "(139)", "3", "(147)"]
    assert valid[:4] == ["valid", "10", "360", f"{size['valid']:,}"]
    assert config_line("dataset_name", "Digits") in output.splitlines()
    assert config_line("model_num_classes", 10) in output.splitlines()
    assert "image_dir" not in output


def test_second_run_changes_nothing_and_says_so(digits: tuple[Path, Path, str]) -> None:
    script, target, output = digits
    before = times(target.parent)
    result = run("digits", script=script)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == f"{target}: there already, nothing to do"
    assert result.stdout.splitlines()[1:] == output.splitlines()[1:]
    assert times(target.parent) == before


def test_target_elsewhere_is_named_in_the_config_lines(tmp_path: Path) -> None:
    (tmp_path / "Mine").mkdir()  # an empty folder is as good as none
    result = run("digits", "--target", "Mine", folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    for name, split in (("train", "train"), ("valid", "valid"), ("test", "valid")):
        assert config_line(f"{name}_image_dir", str(tmp_path / "Mine" / split)) in result.stdout.splitlines()
        assert len(list((tmp_path / "Mine" / split).glob("*/*.png"))) == {"train": 1437, "valid": 360}[split]


def test_incomplete_target_is_refused_and_left_alone(digits: tuple[Path, Path, str], tmp_path: Path) -> None:
    target = tmp_path / "Digits"
    shutil.copytree(digits[1], target)
    next(target.glob("valid/4/*")).unlink()
    before = times(tmp_path)
    assert_refused(call("digits", "--target", target), f"{target}: 359 images in valid", "360", "run again")
    assert times(tmp_path) == before


def test_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Digits").write_text("mine")
    assert_refused(call("digits", "--target", tmp_path / "Digits"), tmp_path / "Digits")
    assert contents(tmp_path) == {"Digits": b"mine"}


# What cannot be


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("text"), lambda path: path.mkdir()])
def test_source_that_is_missing_or_of_no_use_is_named(make: object, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make(source)
    before = times(tmp_path)
    assert_refused(call("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10"), source)
    assert times(tmp_path).keys() == before.keys()


def test_unknown_name_is_one_line() -> None:
    assert_refused(run("cifar11"), "cifar11", "digits", "cifar10")


@pytest.mark.parametrize(("name", "words"), [("mini_imagenet_1k", "csv"), ("folder", "class folders")])
def test_dataset_without_a_download_says_what_to_name(name: str, words: str, tmp_path: Path) -> None:
    assert_refused(call(name, "--target", tmp_path / "out"), words, "--source")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["mnist", "cifar100", "caltech101", "caltech256", "tiny_imagenet_200", "folder"])
def test_archive_of_another_dataset_is_refused(name: str, tmp_path: Path) -> None:
    source = make_source("tar.gz", tmp_path, {"README": b"text", "code/main.c": b"text"})
    assert_refused(call(name, "--source", source, "--target", tmp_path / "out" / "X"), source)
    assert os.listdir(tmp_path) == [source.name]


def test_own_folder_is_named_after_its_source(
    tmp_path: Path, flowers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    source = make_source("tar.gz", tmp_path, flowers)
    output = make("folder", "--source", source)
    assert len(images_of(tmp_path / "data" / "source")) == len(flowers)
    assert config_line("dataset_name", "source") in output.splitlines()
    assert "image_dir" not in output


def test_target_in_the_source_is_refused(tmp_path: Path, flowers: dict[str, bytes]) -> None:
    source = make_source("folder", tmp_path, flowers)
    for target in (source, source / "split", tmp_path):
        assert_refused(call("folder", "--source", source, "--target", target), target)
    assert contents(tmp_path) == {f"source/{name}": data for name, data in flowers.items()}


@pytest.mark.parametrize(
    "options", [("--short-side", "0"), ("--valid-share", "1"), ("--valid-share", "x"), ("--seed", "1.5"), ("--fast",)]
)
def test_options_that_cannot_be_are_one_line(options: tuple, tmp_path: Path) -> None:
    assert_refused(call("folder", "--source", tmp_path, "--target", tmp_path / "X", *options), options[0])


def test_share_of_a_divided_dataset_is_refused(tmp_path: Path) -> None:
    assert_refused(call("digits", "--target", tmp_path / "X", "--valid-share", "0.3"), "--valid-share 0.3", "digits")


def test_target_of_the_older_script_counts_as_there(digits: tuple[Path, Path, str], tmp_path: Path) -> None:
    for split in ("train", "valid"):
        shutil.copytree(digits[1] / split, tmp_path / "Digits" / split)
    assert "there already, nothing to do" in make("digits", "--target", tmp_path / "Digits")
    assert (tmp_path / "Digits" / "train.index.npz").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_has_enough_is_no_error(unbuffered: str, digits: tuple[Path, Path, str]) -> None:
    script, target, _ = digits
    command = [sys.executable, str(script), "digits"]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        if unbuffered:
            assert str(target) in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


# What is written about it


def test_readme_has_every_dataset_with_its_folder_and_numbers() -> None:
    lines = (ROOT / "data" / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[2:6]] for line in lines if line.count("|") == 8]
    rows = {row[0].strip("`").split()[0]: row for row in rows[2:]}
    assert rows.keys() == datasets.DATASETS.keys()
    for name, dataset in datasets.DATASETS.items():
        if dataset.folder:
            _, folder, classes, train = rows[name]
            count = dataset.classes if isinstance(dataset.classes, int) else len(dataset.classes)
            images = dataset.images[0] if isinstance(dataset.images, tuple) else dataset.images
            assert (folder, classes) == (f"data/{dataset.folder}", f"{count:,}")
            assert images is None or train.removesuffix(" in all") == f"{images:,}"


def test_label_map_has_the_published_classes_in_order() -> None:
    from torchvision.models import MobileNet_V2_Weights

    text = (ROOT / "data" / "ImageNet_1K_labels_map.txt").read_text("ascii")
    assert text.endswith("}\n")
    labels = json.loads(text)
    assert list(labels) == [str(number) for number in range(1000)]
    facts = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 985: "daisy", 999: "toilet tissue"}
    assert {number: labels[str(number)].split(", ")[0] for number in facts} == facts
    # torchvision's own list of the classes has one name of each; these two it made unique by a second word.
    unique = {134: "crane bird", 639: "maillot tank suit"}
    for number, name in enumerate(MobileNet_V2_Weights.IMAGENET1K_V2.meta["categories"]):
        if name != unique.get(number):
            assert name.lower() in labels[str(number)].lower().split(", "), number
