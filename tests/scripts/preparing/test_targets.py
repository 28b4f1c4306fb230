# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/targets.py: a target that is there already, and what has changed since it was made."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from preparing_runs import (
    assert_refused,
    call,
    expected_split,
    flower_photos,
    images_of,
    make,
    make_source,
    small_cifar10,
    times,
)


@pytest.fixture
def images() -> dict[str, bytes]:
    return small_cifar10()


@pytest.fixture
def flowers() -> dict[str, bytes]:
    return flower_photos()


@pytest.mark.parametrize("run_number", [1, 2])
def test_index_that_cannot_be_written_is_a_note(
    run_number: int, tmp_path: Path, flowers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from core import image_index

    arguments = ["folder", "--source", make_source("zip", tmp_path, flowers), "--target", tmp_path / "F"]
    if run_number == 2:
        make(*arguments)
        for path in (tmp_path / "F").glob("*.npz"):
            path.unlink()

    def write_index(folder: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{folder}.partial")

    monkeypatch.setattr(image_index, "write_index", write_index)
    output = make(*arguments)
    for split in ("train", "valid"):
        assert f"note: no index file: {tmp_path / 'F' / split}.index.npz: Permission denied" in output
    assert "config.py" in output


@pytest.mark.parametrize(
    ("options", "word"),
    [(("--seed", 1), "seed"), (("--valid-share", 0.5), "valid_share"), (("--short-side", 9), "None")],
)
def test_target_made_with_other_options_is_left_alone(
    options: tuple, word: str, tmp_path: Path, flowers: dict[str, bytes]
) -> None:
    source = make_source("tar", tmp_path, flowers)
    make("folder", "--source", source, "--target", tmp_path / "F")
    before = times(tmp_path)
    assert_refused(call("folder", "--source", source, "--target", tmp_path / "F", *options), tmp_path / "F", word)
    assert_refused(call("digits", "--target", tmp_path / "F"), tmp_path / "F", "digits")
    assert times(tmp_path) == before
    (tmp_path / "F" / "train.index.npz").unlink()
    assert "nothing to do" in make("folder", "--source", source, "--target", tmp_path / "F")
    assert images_of(tmp_path / "F") == expected_split(flowers, 0.2, 0)


def make_as_told(output: str, *arguments: object) -> None:
    """Do what the line of a target says that was made from something else, on which the same command goes on."""
    told, _, _ = output.splitlines()[0].partition(", then the same command, makes it anew")
    command, _, path = told.rpartition("; ")[2].partition(" -r ")
    assert command == "rm"
    shutil.rmtree(path)
    assert ": complete\n" in make(*arguments)
    assert "nothing to do" in make(*arguments)


def test_complete_target_says_that_the_source_is_another_one(tmp_path: Path, images: dict[str, bytes]) -> None:
    first = make_source("tar", tmp_path, images)
    target = tmp_path / "CIFAR10"
    make("cifar10", "--source", first, "--target", target)
    words = f"{target}: there already, but made from {first}"
    for arguments in (("--source", first), ()):
        assert "nothing to do" in make("cifar10", *arguments, "--target", target)
    second = ["cifar10", "--source", make_source("folder", tmp_path, images), "--target", target]
    output = make(*second)
    assert output.startswith(f"{words}; rm -r {target}, then the same command") and "nothing to do" not in output
    first.write_bytes(first.read_bytes() + bytes(512))
    assert f"{words} before it was changed;" in make("cifar10", "--source", first, "--target", target)
    make_as_told(output, *second)
    first.unlink()
    assert_refused(call("cifar10", "--source", first, "--target", target), f"--source {first}: no such file")


def test_complete_target_says_that_its_folder_has_changed(tmp_path: Path, flowers: dict[str, bytes]) -> None:
    source = make_source("folder", tmp_path, flowers)
    arguments = ["folder", "--source", source, "--target", tmp_path / "F"]
    make(*arguments)
    (source / "notes.txt").write_text("no image")
    assert "nothing to do" in make(*arguments)
    (source / "daisy" / "new.jpg").write_bytes(b"new")
    output = make(*arguments)
    assert f"but made from {source} before it was changed; rm -r" in output and "nothing to do" not in output
    make_as_told(output, *arguments)
    assert b"new" in images_of(tmp_path / "F").values()
    shutil.rmtree(source)
    assert_refused(call(*arguments), f"--source {source}: no such file or folder")


def test_images_that_were_removed_from_a_target_are_let_go(tmp_path: Path, flowers: dict[str, bytes]) -> None:
    """As the user does whom check_dataset.py told to remove unreadable images."""
    from core.image_index import read_index

    arguments = ["folder", "--source", make_source("folder", tmp_path, flowers), "--target", tmp_path / "F"]
    make(*arguments)
    removed = sorted((tmp_path / "F").glob("train/daisy/*"))[:2]
    for path in removed:
        path.unlink()
    line = f"{tmp_path / 'F'}: there already, with 2 images fewer than when it was made; record and index are renewed"
    assert make(*arguments).splitlines()[0] == line
    assert "nothing to do" in make(*arguments)
    assert len(images_of(tmp_path / "F")) == len(flowers) - 2
    assert read_index(tmp_path / "F" / "train").counts.sum() == len(list((tmp_path / "F").glob("train/**/*.*")))
    (tmp_path / "F" / "train" / "daisy" / "mine.jpg").write_bytes(b"mine")
    assert "with 1 image more than when it was made" in make(*arguments)
    shutil.rmtree(tmp_path / "F" / "valid" / "rose")
    assert_refused(call(*arguments), "no images of class rose in valid", "put them back, or move it away")


def test_notes_of_the_first_run_are_shown_again(tmp_path: Path, flowers: dict[str, bytes]) -> None:
    source = make_source("zip", tmp_path, {**flowers, "logo.png": b"x"})
    arguments = ["folder", "--source", source, "--target", tmp_path / "F"]
    outputs = [make(*arguments).splitlines() for _ in range(3)]
    assert f"note: {source}: left out 1 image outside class folders" in outputs[0]
    assert outputs[0][1:] == outputs[1][1:] == outputs[2][1:]
