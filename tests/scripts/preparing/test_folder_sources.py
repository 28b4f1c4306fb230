# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/folder_sources.py: one's own photos."""

import re
from pathlib import Path

import pytest
from preparing_runs import (
    assert_refused,
    call,
    config_line,
    contents,
    expected_split,
    flower_photos,
    images_of,
    make,
    make_source,
)


@pytest.fixture
def flowers() -> dict[str, bytes]:
    return flower_photos()


@pytest.mark.parametrize(
    ("kind", "top", "options", "share", "seed"),
    [
        ("folder", "", (), 0.2, 0),
        ("folder", "flower_photos/", ("--seed", 7), 0.2, 7),
        ("zip", "", ("--valid-share", "0.5"), 0.5, 0),
        ("tar.gz", "./flower_photos/", ("--valid-share", "0.99", "--seed", "1"), 0.99, 1),
    ],
)
def test_own_folder_is_split_by_the_documented_rule(
    kind: str, top: str, options: tuple, share: float, seed: int, tmp_path: Path, flowers: dict[str, bytes]
) -> None:
    others = {"readme.txt": b"x", "logo.png": b"left out", "daisy/.thumb.jpg": b"x", "notes/list.csv": b"x"}
    others |= {"daisy/6.CR2": b"x", "rose/6.cr2": b"x"}
    source = make_source(kind, tmp_path, {f"{top}{name}": data for name, data in {**others, **flowers}.items()})
    before = contents(source) if kind == "folder" else source.read_bytes()
    output = make("folder", "--source", source, "--target", tmp_path / "Flowers", *options)
    assert images_of(tmp_path / "Flowers") == expected_split(flowers, share, seed)
    assert before == (contents(source) if kind == "folder" else source.read_bytes())
    assert "left out 1 image outside class folders" in output
    assert re.search(rf"note: {source}: left out 2 \.cr2 \(.*\), 1 \.csv.*, 1 \.txt", output)
    assert config_line("dataset_name", "Flowers") in output.splitlines()


@pytest.mark.parametrize(
    ("train", "valid"), [("train", "valid"), ("train", "val"), ("Train", "Val"), ("training", "VALIDATION")]
)
def test_own_folder_that_is_divided_keeps_its_split(
    train: str, valid: str, tmp_path: Path, flowers: dict[str, bytes]
) -> None:
    files = {**{f"{train}/{name}": data for name, data in flowers.items()}, "test/a/1.jpg": b"left out"}
    files |= {f"{valid}/{name}/1.jpg": name.encode() for name in ("daisy", "rose")}
    source = make_source("zip", tmp_path, files)
    output = make("folder", "--source", source, "--target", tmp_path / "Flowers")
    del files["test/a/1.jpg"]
    assert images_of(tmp_path / "Flowers") == {
        name.replace(f"{valid}/", "valid/", 1).replace(f"{train}/", "train/", 1): data for name, data in files.items()
    }
    assert f"{train} was taken for train, {valid} was taken for valid; left out: test (no class folders)" in output
    assert "left out 1 image outside class folders" in output


@pytest.mark.parametrize(
    ("tops", "words"),
    [
        (("Train", "Test"), "holds Train and Test, and nothing to validate on; --test-as-valid takes Test"),
        (("training", "testing"), "holds training and testing, and nothing to validate on"),
        (("Validation", "test"), "holds Validation and test without the split to train on"),
        (("train", "Training", "val"), "Training and train are both called train"),
        (("train", "val", "valid", "more"), "val and valid are both called valid"),
    ],
)
def test_own_folder_with_half_a_split_is_refused(tops: tuple, words: str, tmp_path: Path) -> None:
    names = (f"{top}/{name}/{number}.jpg" for top in tops for name in "ab" for number in range(2))
    source = make_source("zip", tmp_path, dict.fromkeys(names, b"x"))
    assert_refused(call("folder", "--source", source, "--target", tmp_path / "X"), source, words)


BAD_FOLDERS = {
    "one class": {"a/1.jpg": b"x", "a/2.jpg": b"x"},
    "one image": {"a/1.jpg": b"x", "a/2.jpg": b"x", "b/1.jpg": b"x"},
    "no classes": {"1.jpg": b"x", "2.jpg": b"x"},
    "no valid": {"train/a/1.jpg": b"x", "test/a/1.jpg": b"x"},
    "other classes": {"train/a/1.jpg": b"x", "train/b/1.jpg": b"x", "valid/a/1.jpg": b"x"},
    "bad class": {"a/1.jpg": b"x", "a/2.jpg": b"x", "b\x1b[2J/1.jpg": b"x", "b\x1b[2J/2.jpg": b"x"},
    "blank before": {" a/1.jpg": b"x", " a/2.jpg": b"x", "b/1.jpg": b"x", "b/2.jpg": b"x"},
    "blank after": {"a/1.jpg": b"x", "a/2.jpg": b"x", "b /1.jpg": b"x", "b /2.jpg": b"x"},
    "backslash": {"a/1.jpg": b"x", "a/2.jpg": b"x", "b/..\\1.jpg": b"x", "b/2.jpg": b"x"},
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_own_folder_that_cannot_be_used_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    source = make_source(kind, tmp_path, BAD_FOLDERS[name])
    assert_refused(call("folder", "--source", source, "--target", tmp_path / "out" / "X"), source)
    assert not (tmp_path / "out" / "X").exists()


def test_link_that_leads_nowhere_is_left_out(tmp_path: Path, flowers: dict[str, bytes]) -> None:
    source = make_source("folder", tmp_path, flowers)
    (source / "daisy" / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    for _ in range(2):
        assert "another source" not in make("folder", "--source", source, "--target", tmp_path / "F")
    assert images_of(tmp_path / "F") == expected_split(flowers, 0.2, 0)
