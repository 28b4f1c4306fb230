# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/work_folder.py: a run that was interrupted or killed is continued to the same result."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from preparing_runs import (
    SCRIPT,
    assert_refused,
    call,
    expected_split,
    flower_photos,
    images_of,
    interrupt_with_full_disk,
    make,
    make_source,
    run,
    small_cifar10,
    smooth_photos,
    tar_of,
)

from preparing import work_folder


@pytest.fixture
def images() -> dict[str, bytes]:
    return small_cifar10()


@pytest.fixture
def flowers() -> dict[str, bytes]:
    return flower_photos()


@pytest.fixture
def photos() -> dict[str, bytes]:
    return smooth_photos()


KILLED = Path(__file__).with_name("killed_run.py")  # moved: recipe, 50 images, record, two splits, record


@pytest.mark.parametrize("moves", [0, 1, 25, 51, 52, 53, 54, 55])
def test_killed_run_is_continued_to_the_same_result(moves: int, tmp_path: Path, images: dict[str, bytes]) -> None:
    source, target = make_source("tar", tmp_path, images), tmp_path / "out" / "CIFAR10"
    killed = run(moves, SCRIPT, "cifar10", "--source", source, "--target", target, script=KILLED)
    assert killed.returncode == -signal.SIGKILL
    assert (target / "prepare_dataset.json").exists() == (moves == 55)  # then only the index files are missing
    assert (target / "valid").exists() == (moves >= 54)
    output = make("cifar10", "--source", source, "--target", target)
    # dataset.write_index, which is killed last, leaves a hidden file that nobody reads
    assert {name: data for name, data in images_of(target).items() if name[0] != "."} == images
    assert os.listdir(tmp_path / "out") == ["CIFAR10"]
    assert ("continuing" in output) == (2 <= moves < 52)


@pytest.mark.parametrize("moves", [2, 4])
def test_killed_run_with_short_side_is_continued_to_the_same_result(
    moves: int, tmp_path: Path, photos: dict[str, bytes]
) -> None:
    source = make_source("tar", tmp_path, photos)
    arguments = ["folder", "--source", source, "--short-side", 64, "--target"]
    make(*arguments, tmp_path / "straight")
    killed = run(moves, SCRIPT, *arguments, tmp_path / "killed", script=KILLED)
    assert killed.returncode == -signal.SIGKILL
    half_written = sorted((tmp_path / ".killed.partial" / "images").rglob("*.jpg"))
    if half_written:  # as after a power failure
        half_written[0].write_bytes(half_written[0].read_bytes()[:-1])
    assert "continuing" in make(*arguments, tmp_path / "killed")
    assert images_of(tmp_path / "killed") == images_of(tmp_path / "straight")


def raise_timeout(*_: object) -> None:
    raise TimeoutError("the script did not read its source")


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Let a test fail that would wait forever."""
    previous = signal.signal(signal.SIGALRM, raise_timeout)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_run_is_continued(number: signal.Signals, tmp_path: Path, images: dict[str, bytes]) -> None:
    """The source is a pipe: what is written to it and more than its buffer holds has been read."""
    files = {name: data * 80 for name, data in images.items()}
    packed, source, target = tar_of(files), tmp_path / "source.tar", tmp_path / "out" / "CIFAR10"
    os.mkfifo(source)
    arguments = ["cifar10", "--source", str(source), "--target", str(target)]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )
    try:
        with alarm(60), source.open("wb") as pipe:
            pipe.write(packed[: len(packed) // 2])
            pipe.flush()
            assert os.listdir(tmp_path / "out") == [".CIFAR10.partial"]
            assert_refused(call(*arguments), "another run is working here")
            process.send_signal(number)
            _, error = process.communicate()
    finally:
        process.kill()
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert error == "prepare_dataset.py: interrupted; the same command continues\n"
    assert os.listdir(tmp_path / "out") == [".CIFAR10.partial"]
    writer = threading.Thread(target=lambda: source.write_bytes(packed))
    writer.start()
    with alarm(60):
        assert "continuing an interrupted run" in make(*arguments)
        writer.join()
    assert images_of(target) == files
    assert os.listdir(tmp_path / "out") == ["CIFAR10"]


def test_full_disk_is_one_line_and_the_next_run_continues(
    tmp_path: Path, flowers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source("folder", tmp_path, flowers)
    arguments = ["folder", "--source", source, "--target", tmp_path / "F"]
    interrupt_with_full_disk(monkeypatch, *arguments)
    assert not (tmp_path / "F").exists()
    assert "continuing" in make(*arguments)
    assert images_of(tmp_path / "F") == expected_split(flowers, 0.2, 0)


@pytest.mark.parametrize("change", ["seed", "source"])
def test_another_recipe_starts_afresh(
    change: str, tmp_path: Path, flowers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source("tar", tmp_path, flowers)
    interrupt_with_full_disk(monkeypatch, "folder", "--source", source, "--target", tmp_path / "F")
    seed = 5 if change == "seed" else 0
    if change == "source":
        flowers = {name: data + b"new" for name, data in flowers.items() if name != "daisy/3.jpg"}
        source = make_source("tar", tmp_path, flowers)
    output = make("folder", "--source", source, "--target", tmp_path / "F", "--seed", seed)
    assert "starting afresh" in output
    assert images_of(tmp_path / "F") == expected_split(flowers, 0.2, seed)


@pytest.mark.parametrize("change", ["removed", "renamed", "class removed"])
def test_image_that_left_the_source_meanwhile_does_not_stay(
    change: str, tmp_path: Path, flowers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    flowers |= {f"aster/{number}.jpg": b"aster" for number in range(3)}
    source = make_source("folder", tmp_path, flowers)
    arguments = ["folder", "--source", source, "--target", tmp_path / "F"]
    interrupt_with_full_disk(monkeypatch, *arguments)
    left = next(path for path in (tmp_path / ".F.partial" / "images").rglob("*.jpg"))
    name = left.relative_to(left.parents[1]).as_posix()
    gone = [key for key in flowers if key == name or (change == "class removed" and key.startswith("aster/"))]
    data = [flowers.pop(key) for key in gone]
    for key in gone:
        (source / key).unlink()
    if change == "renamed":
        flowers[f"{name}.jpg"] = data[0]
        (source / f"{name}.jpg").write_bytes(data[0])
    assert "continuing" in make(*arguments)
    assert images_of(tmp_path / "F") == expected_split(flowers, 0.2, 0)


def test_short_side_makes_an_image_anew_that_was_replaced_meanwhile(
    tmp_path: Path, photos: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source("folder", tmp_path, photos)
    arguments = ["folder", "--source", source, "--short-side", 64, "--target"]
    interrupt_with_full_disk(monkeypatch, *arguments, tmp_path / "F")
    names = ("class0/0.jpg", "class1/1.png")  # one is smaller than the short side now, the other one still larger
    (source / names[0]).write_bytes(photos["class0/2.jpg"])
    (source / names[1]).write_bytes(photos["class0/4.bmp"])
    reencoded: list[str] = []
    real = work_folder.convert
    monkeypatch.setattr(work_folder, "convert", lambda *options: (reencoded.append(options[1]), real(*options))[1])
    with (tmp_path / ".F.partial" / "sources.txt").open("a") as file:
        file.write('\n0123 "train/class0/0.j')  # as after a power failure
    assert "continuing" in make(*arguments, tmp_path / "F")
    assert 2 <= len(reencoded) < len(photos)  # the others stay
    make(*arguments, tmp_path / "straight")
    assert images_of(tmp_path / "F") == images_of(tmp_path / "straight")


def test_journal_has_the_last_line_of_each_name(tmp_path: Path) -> None:
    work = work_folder.WorkFolder(tmp_path / "F")
    work.images.mkdir(parents=True)
    names = ["train/a/1.jpg", "train/a/line\nbreak \udcff.jpg"]
    for digest in ("00", "11"):
        for name in names:
            work.note_origin(work.images / name, digest)
    with work.journal.open("ab") as file:
        file.write(b'\n22 "train/a/1.j')
    work.note_origin(work.images / "x", "33")
    assert work_folder.read_journal(work.journal) == {**dict.fromkeys(names, "11"), "x": "33"} == work.made_from


def test_name_in_upper_and_lower_case_is_found_where_both_are_one_file(
    tmp_path: Path, flowers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a file system is imitated by writing every name in lower case."""
    real = work_folder.write_sample
    monkeypatch.setattr(
        work_folder,
        "write_sample",
        lambda data, name, *options: real(data, name.lower(), *options)._replace(name=name),
    )
    source = make_source("tar", tmp_path, {**flowers, "daisy/0.JPG": b"another"})
    arguments = ["folder", "--source", source, "--target", tmp_path / "F", "--valid-share", "0.01"]
    assert_refused(call(*arguments), "upper and lower case")
    assert not (tmp_path / "F").exists()
