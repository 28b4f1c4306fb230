# SPDX-License-Identifier: Apache-2.0
"""scripts/prepare_dataset.py, run as a user runs it, and the files of data/."""

import contextlib
import csv
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import scipy.io
from conftest import ROOT
from PIL import Image, ImageOps

import prepare_dataset
from preparing import datasets, downloads, imagenet_sources, sources, work_folder

SCRIPT = ROOT / "scripts" / "prepare_dataset.py"
MADE = {"prepare_dataset.json", "train.index.npz", "valid.index.npz"}  # beside the splits in a target
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def run(*arguments: object, script: Path = SCRIPT, **options: object) -> subprocess.CompletedProcess:
    """As a user does: in a process of its own."""
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def call(*arguments: object) -> subprocess.CompletedProcess:
    """The same in this process, which has imported torch already."""
    output, error = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
            status = prepare_dataset.main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        status = exit_.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), error.getvalue())


def make(*arguments: object) -> str:
    """Run a command that must succeed; gives what it printed."""
    result = call(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def config_line(name: str, value: object) -> str:
    """What to set, as the script prints it."""
    lines = (ROOT / "config.py").read_text().splitlines()
    number = next(number for number, line in enumerate(lines, start=1) if line.strip().startswith(f"{name} = "))
    return f"  line {number}: {name} = {json.dumps(value)}"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images_of(target: Path) -> dict[str, bytes]:
    """The files of a finished target but those that the script adds, all of which must be there."""
    found = contents(target)
    splits = {name.partition("/")[0] for name in found if "/" in name}
    added = {"prepare_dataset.json", *(f"{split}.index.npz" for split in splits)}
    assert added <= found.keys()
    assert not target.with_name(f".{target.name}.partial").exists()
    return {name: data for name, data in found.items() if name not in added}


def pixels_of(files: dict[str, bytes], mode: str) -> dict[str, np.ndarray]:
    """Decode PNG files of one mode."""
    pixels = {}
    for name, data in files.items():
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode) == ("PNG", mode)
            pixels[name] = np.asarray(image)
    return pixels


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def assert_refused(result: subprocess.CompletedProcess, *words: object) -> None:
    """Exit status 2 and one line that holds every one of the words."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n"), result.stderr
    assert result.stdout == ""
    for word in words:
        assert str(word) in result.stderr


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
    result = run("digits", script=script, cwd="/")
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
    result = run("digits", "--target", "Mine", cwd=tmp_path)
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


@pytest.mark.parametrize("damage", ["cut", "line", "value"])
def test_damaged_digits_file_is_named(damage: str, tmp_path: Path, digit_lines: list[list[int]]) -> None:
    packed = (ROOT / "data" / "digits.csv.gz").read_bytes()
    text = gzip.decompress(packed)
    source = tmp_path / "digits.csv.gz"
    source.write_bytes(
        {
            "cut": packed[:-1000],
            "line": gzip.compress(text[: text.rindex(b"\n", 0, -1) + 1]),
            "value": gzip.compress(text.replace(b",16,", b",17,", 1)),
        }[damage]
    )
    assert_refused(call("digits", "--source", source, "--target", tmp_path / "new" / "Digits"), source)
    assert os.listdir(tmp_path) == [source.name]


# CIFAR-10 from class folders


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    """Three images of each class in train, two in valid; their bytes are copied and never decoded."""
    random = np.random.default_rng(0)
    return {
        f"{split}/{name}/{number:04d}.{suffix}": random.bytes(300 + 60 * number)
        for split, count in (("train", 3), ("valid", 2))
        for name in CLASSES
        for number, suffix in zip(range(count), ("jpg", "png", "JPEG"), strict=False)
    }


def make_source(kind: str, folder: Path, files: dict[str, bytes]) -> Path:
    """Pack files as a folder, .tar, .tar.gz or .zip."""
    if kind == "folder":
        for name, data in files.items():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes(data)
        return folder / "source"
    source = folder / f"source.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(source, "w:gz" if kind == "tar.gz" else "w") as archive:
            for name, data in files.items():
                add_to_tar(archive, name, data)
    return source


def add_to_tar(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(data))


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


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("text"), lambda path: path.mkdir()])
def test_source_that_is_missing_or_of_no_use_is_named(make: object, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make(source)
    before = times(tmp_path)
    assert_refused(call("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10"), source)
    assert times(tmp_path).keys() == before.keys()


def test_unknown_name_is_one_line() -> None:
    assert_refused(run("cifar11"), "cifar11", "digits", "cifar10")


# Archives that are damaged or hostile


def harm_archive(source: Path, harm: str, last_data: bytes) -> None:
    """Harm one place near the end, so that every class is still there."""
    whole = source.read_bytes()
    if harm == "cut":
        whole = whole[: len(whole) - 900]
    elif harm == "cut-before-last-header":  # tarfile takes it for the end of the archive
        whole = whole[: whole.index(b"valid/truck/0001.png")]
    elif harm == "header-lost":  # tarfile takes it for the mark of the end
        place = whole.index(b"valid/truck/0001.png")
        whole = whole[:place] + bytes(tarfile.BLOCKSIZE) + whole[place + tarfile.BLOCKSIZE :]
    elif harm == "bit":  # in stored bytes, so that only the checksum can tell
        place = whole.index(last_data)
        whole = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    source.write_bytes(whole)


@pytest.mark.parametrize(
    ("kind", "harm"),
    [("tar.gz", "cut"), ("tar", "cut-before-last-header"), ("tar", "header-lost"), ("tar.gz", "bit"), ("zip", "bit")],
)
def test_damaged_archive_is_named(kind: str, harm: str, tmp_path: Path, images: dict[str, bytes]) -> None:
    source = tmp_path / f"source.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(source, "w", zipfile.ZIP_STORED) as archive:
            for name, data in images.items():
                archive.writestr(name, data)
    else:
        whole = make_source("tar", tmp_path, images).read_bytes()
        (tmp_path / "source.tar").unlink()
        source.write_bytes(gzip.compress(whole, compresslevel=0) if kind == "tar.gz" else whole)
    harm_archive(source, harm, images["valid/truck/0001.png"])
    result = call("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert_refused(result, f"{source}: damaged or cut off")
    assert os.listdir(tmp_path) == [source.name]


def add_tar_evil(archive: tarfile.TarFile, kind: str, outside: Path) -> None:
    data = b"evil"
    if kind == "upwards":
        add_to_tar(archive, f"train/cat/../../../../{outside.name}/evil.png", data)
    elif kind == "absolute":
        add_to_tar(archive, f"{outside}/train/cat/evil.png", data)
    elif kind == "symlink":
        add_to_tar(archive, "train/new", type=tarfile.SYMTYPE, linkname=str(outside))
        add_to_tar(archive, "train/new/evil.png", data)
    elif kind == "hardlink":
        add_to_tar(archive, "train/cat/evil.png", type=tarfile.LNKTYPE, linkname=str(outside / "secret"))
    elif kind == "device":
        add_to_tar(archive, "train/cat/evil.png", type=tarfile.FIFOTYPE)


def add_zip_evil(archive: zipfile.ZipFile, kind: str, outside: Path) -> None:
    if kind == "symlink":
        link = zipfile.ZipInfo("train/cat/evil.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(outside / "secret"))
    else:
        names = {"upwards": f"train/cat/../../../../{outside.name}/evil.png", "absolute": f"{outside}/evil.png"}
        archive.writestr(names[kind], b"evil")


@pytest.mark.parametrize(
    ("pack", "kind"),
    [("tar.gz", kind) for kind in ("upwards", "absolute", "symlink", "hardlink", "device")]
    + [("zip", kind) for kind in ("upwards", "absolute", "symlink")],
)
def test_hostile_archive_writes_nothing(pack: str, kind: str, tmp_path: Path, images: dict[str, bytes]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    source = tmp_path / f"hostile.{pack}"
    with zipfile.ZipFile(source, "w") if pack == "zip" else tarfile.open(source, "w:gz") as archive:
        for name, data in images.items():  # nothing is missing: only the hostile member can be the reason
            archive.writestr(name, data) if pack == "zip" else add_to_tar(archive, name, data)
        (add_zip_evil if pack == "zip" else add_tar_evil)(archive, kind, outside)
    before = times(outside)
    assert_refused(call("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10"), source, "do not use")
    assert sorted(os.listdir(tmp_path)) == [source.name, "outside"]
    assert times(outside) == before and contents(outside) == {"secret": b"secret"}


def test_header_that_claims_8_gib_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 2**33
    source = tmp_path / "hostile.tar.gz"
    source.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    assert_refused(
        call("cifar10", "--source", source, "--target", tmp_path / "CIFAR10"), source, "header of 8589934592"
    )
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


# MNIST


def idx(array: np.ndarray) -> bytes:
    """The format of yann.lecun.com: type 8 is unsigned bytes, sizes are big-endian."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files(labels: tuple[list[int], list[int]] = ([5, 0, 4, 1, 9, 2, 3, 6, 7, 8], list(range(10)))) -> dict:
    """The four files of a small MNIST, and what must come of them."""
    random = np.random.default_rng(1)
    files, expected = {}, {}
    for split, prefix, numbers in zip(("train", "valid"), ("train", "t10k"), labels, strict=True):
        pixels = random.integers(0, 256, (len(numbers), 28, 28), dtype=np.uint8)
        files[f"{prefix}-images-idx3-ubyte"] = idx(pixels)
        files[f"{prefix}-labels-idx1-ubyte"] = idx(np.array(numbers, dtype=np.uint8))
        expected |= {f"{split}/{label}/{place:05d}.png": pixels[place] for place, label in enumerate(numbers)}
    return {"files": files, "expected": expected}


@pytest.mark.parametrize("kind", ["folder of .gz", "folder", "tar of .gz", "zip with dots"])
def test_mnist_idx_files_become_pictures(kind: str, tmp_path: Path) -> None:
    made = mnist_files()
    files = {f"MNIST/raw/{name}": data for name, data in made["files"].items()}
    if kind.endswith(".gz"):
        files = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    if kind.endswith("dots"):
        files = {name.replace("-idx", ".idx"): data for name, data in files.items()}
    source = make_source(kind.split()[0], tmp_path, files)
    output = make("mnist", "--source", source, "--target", tmp_path / "MNIST")
    found = pixels_of(images_of(tmp_path / "MNIST"), "L")
    assert found.keys() == made["expected"].keys()
    assert all(np.array_equal(found[name], pixels) for name, pixels in made["expected"].items())
    assert "note: 10 images in train, the published dataset has 60,000" in output


def bad_mnist(harm: str) -> dict[str, bytes]:
    files = mnist_files()["files"]
    images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    if harm == "missing":
        del files[labels]
    elif harm == "cut":
        files[images] = files[images][:-1]
    elif harm == "type":
        files[images] = files[images].replace(b"\0\0\x08", b"\0\0\x0d", 1)
    elif harm == "huge":
        files[images] = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 28, 28)
    elif harm == "size":
        files[images] = idx(np.zeros((10, 27, 28), np.uint8))
    elif harm == "count":
        files[labels] = idx(np.arange(9, dtype=np.uint8))
    elif harm == "label":
        files[labels] = idx(np.arange(1, 11, dtype=np.uint8))
    elif harm == "swapped":
        files[images], files[labels] = files[labels], files[images]
    elif harm == "gzip":
        files[labels] = gzip.compress(files[labels])[:-4]
    elif harm == "other-dataset":  # Fashion-MNIST has 1,000 of each class
        files["t10k-images-idx3-ubyte"] = idx(np.zeros((10_000, 28, 28), np.uint8))
        files["t10k-labels-idx1-ubyte"] = idx(np.arange(10_000, dtype=np.uint64).astype(np.uint8) % 10)
    return files


BAD_MNIST = ("missing", "cut", "type", "huge", "size", "count", "label", "swapped", "gzip", "other-dataset")


@pytest.mark.parametrize("harm", BAD_MNIST)
def test_mnist_that_is_damaged_or_another_is_refused(harm: str, tmp_path: Path) -> None:
    source = make_source("tar", tmp_path, bad_mnist(harm))
    assert_refused(call("mnist", "--source", source, "--target", tmp_path / "out" / "MNIST"), source)
    assert os.listdir(tmp_path) == [source.name]


# CIFAR from its batches


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


# Tiny ImageNet

TINY_CLASSES = ("n01443537", "n01629819", "n02206856")


def tiny_files() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A small tiny-imagenet-200 as it is published, and what must come of it."""
    random = np.random.default_rng(2)
    files, expected, rows = {"wnids.txt": b"".join(name.encode() + b"\n" for name in TINY_CLASSES)}, {}, []
    for index, name in enumerate(TINY_CLASSES):
        files[f"train/{name}/{name}_boxes.txt"] = b"n01443537_0.JPEG\t0\t10\t63\t58\n"
        for number in range(3):
            data = random.bytes(400)
            files[f"train/{name}/images/{name}_{number}.JPEG"] = data
            expected[f"train/{name}/{name}_{number}.JPEG"] = data
        for number in range(2):  # the numbers of a class are not neighbours
            image, data = f"val_{index + 3 * number}.JPEG", random.bytes(300)
            files[f"val/images/{image}"] = data
            expected[f"valid/{name}/{image}"] = data
            rows.append(f"{image}\t{name}\t0\t32\t44\t62\n")
    files["val/val_annotations.txt"] = "".join(sorted(rows)).encode()
    files["test/images/test_0.JPEG"] = b"unknown"
    return {f"tiny-imagenet-200/{name}": data for name, data in files.items()}, expected


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_tiny_imagenet_takes_its_validation_classes_from_the_annotations(kind: str, tmp_path: Path) -> None:
    files, expected = tiny_files()
    source = make_source(kind, tmp_path, files)
    output = make("tiny_imagenet_200", "--source", source, "--target", tmp_path / "Tiny")
    assert images_of(tmp_path / "Tiny") == expected
    assert f"note: {source}: left out 1 images without a label" in output
    assert "note: 3 classes, the published dataset has 200" in output


@pytest.mark.parametrize("harm", ["no annotations", "image missing", "annotation missing", "class that leads out"])
def test_tiny_imagenet_that_does_not_fit_is_refused(harm: str, tmp_path: Path) -> None:
    files, _ = tiny_files()
    notes = "tiny-imagenet-200/val/val_annotations.txt"
    if harm == "no annotations":
        del files[notes]
    elif harm == "image missing":
        del files["tiny-imagenet-200/val/images/val_0.JPEG"]
    elif harm == "annotation missing":
        files[notes] = files[notes][files[notes].index(b"\n") + 1 :]
    else:
        files[notes] = files[notes].replace(b"n01443537", b"../../out")
    source = make_source("zip", tmp_path, files)
    assert_refused(call("tiny_imagenet_200", "--source", source, "--target", tmp_path / "T"), source, "val")
    assert os.listdir(tmp_path) == [source.name]


# mini-ImageNet


def mini_files(classes: dict[str, list[str]], number: int = 4, folders: bool = False) -> dict[str, bytes]:
    """images/ and one csv file per list, `number` images of each class in each list; `folders`: in class folders."""
    random = np.random.default_rng(3)
    files = {"images/n99999999.jpg": b"in no list"}
    for name, wnids in classes.items():
        rows = ["filename    , label" if folders else "filename,label"]
        for wnid in wnids:
            for place in range(number):
                image = f"{f'{wnid}/' if folders else ''}{wnid}{name}{place:08d}.jpg"
                files[f"images/{image}"] = random.bytes(200)
                rows.append(f"{image},{wnid}")
        files[f"{name}.csv"] = "\r\n".join(rows).encode()
    return {f"mini_imagenet/{name}": data for name, data in files.items()}


@pytest.mark.parametrize(("kind", "valid"), [("tar.gz", "valid"), ("folder", "val")])
def test_mini_imagenet_lists_of_the_same_classes_are_the_splits(kind: str, valid: str, tmp_path: Path) -> None:
    wnids = ["n01532829", "n01558993"]
    files = mini_files({"train": wnids, valid: wnids, "test": wnids}, folders=kind == "folder")
    source = make_source(kind, tmp_path, files)
    output = make("mini_imagenet_1k", "--source", source, "--target", tmp_path / "Mini")
    expected = {}
    for name, data in files.items():
        image = name.rpartition("/")[2]
        split = "train" if "train0" in image else "valid" if f"{valid}0" in image else None
        if split and "/images/" in name:
            expected[f"{split}/{image[:9]}/{image}"] = data
    assert len(expected) == 16
    assert images_of(tmp_path / "Mini") == expected
    assert f"note: {source}: test.csv is left out, 8 images" in output


def test_mini_imagenet_few_shot_lists_are_joined_and_split(tmp_path: Path) -> None:
    lists = {"train": ["n01532829", "n01558993"], "val": ["n01704323"], "test": ["n01749939"]}
    files = mini_files(lists, number=5)
    source = make_source("zip", tmp_path, files)
    output = make("mini_imagenet_1k", "--source", source, "--target", tmp_path / "Mini")
    found = images_of(tmp_path / "Mini")
    images = {name.rpartition("/")[2]: data for name, data in files.items() if "/images/n0" in name}
    assert {name.rpartition("/")[2]: data for name, data in found.items()} == images
    counts = Counter(tuple(name.split("/")[:2]) for name in found)
    for wnid in ("n01532829", "n01558993", "n01704323", "n01749939"):
        assert (counts["train", wnid], counts["valid", wnid]) == (4, 1)
    assert all(name.split("/")[1] == name.split("/")[2][:9] for name in found)
    assert "they are joined" in output
    assert output.count("left out 1 images that no list names") == 1


@pytest.mark.parametrize("harm", ["no lists", "image missing", "columns", "overlap", "upwards", "both lists"])
def test_mini_imagenet_lists_that_cannot_be_are_refused(harm: str, tmp_path: Path) -> None:
    files = mini_files({"train": ["n01532829", "n01558993"], "valid": ["n01532829", "n01558993"]})
    train = "mini_imagenet/train.csv"
    if harm == "no lists":
        files = {name: data for name, data in files.items() if not name.endswith(".csv")}
    elif harm == "image missing":
        del files["mini_imagenet/images/n01532829train00000000.jpg"]
    elif harm == "columns":
        files[train] = files[train].replace(b"filename", b"file")
    elif harm == "overlap":
        files[train] = files[train].replace(b",n01558993", b",n01704323")
    elif harm == "upwards":
        files[train] = files[train].replace(b",n01558993", b",../../out")
    else:
        files[train] += b"\r\nn01532829valid00000000.jpg,n01532829"
    source = make_source("zip", tmp_path, files)
    assert_refused(call("mini_imagenet_1k", "--source", source, "--target", tmp_path / "Mini"), source)
    assert os.listdir(tmp_path) == [source.name]


@pytest.mark.parametrize(("name", "words"), [("mini_imagenet_1k", "csv"), ("folder", "class folders")])
def test_dataset_without_a_download_says_what_to_name(name: str, words: str, tmp_path: Path) -> None:
    assert_refused(call(name, "--target", tmp_path / "out"), words, "--source")
    assert os.listdir(tmp_path) == []


# ImageNet

SYNSETS = ("n02119789", "n01440764", "n02100735")  # ILSVRC2012_ID 1, 2, 3: not the order of their names
VALID_IDS = (3, 1, 2, 2, 1, 3)


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            add_to_tar(archive, name, data)
    return buffer.getvalue()


def make_devkit(path: Path, synsets: tuple[str, ...] = SYNSETS, ids: tuple[int, ...] = VALID_IDS) -> None:
    """meta.mat with the published fields: the leaves, then a synset above them."""
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    rows = [(number + 1, wnid, "words", 0) for number, wnid in enumerate(synsets)]
    meta = io.BytesIO()
    scipy.io.savemat(
        meta, {"synsets": np.array([*rows, (1001, "n00001740", "entity", 3)], fields)}, do_compression=True
    )
    truth = "".join(f"{number}\n" for number in ids).encode()
    with tarfile.open(path, "w:gz") as archive:
        add_to_tar(archive, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        add_to_tar(archive, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth)
        add_to_tar(archive, "ILSVRC2012_devkit_t12/readme.txt", b"text")


def make_imagenet(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The three archives with 3 classes; gives the images of train and valid that must come of them."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(4)
    train, valid, archives = {}, {}, {}
    for wnid in SYNSETS:
        images = {f"{wnid}_{number}.JPEG": random.bytes(500 + number) for number in (18, 7, 10_026)}
        archives[f"{wnid}.tar"] = tar_of(images)
        train |= {f"ILSVRC2012_img_train/{wnid}/{name}": data for name, data in images.items()}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of(archives))
    images = {f"ILSVRC2012_val_{number:08d}.JPEG": random.bytes(300) for number in (4, 2, 6, 1, 3, 5)}
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of(images))
    for name, data in images.items():
        wnid = SYNSETS[VALID_IDS[int(name[15:23]) - 1] - 1]
        valid[f"ILSVRC2012_img_val/{wnid}/{name}"] = data
    make_devkit(folder / "ILSVRC2012_devkit_t12.tar.gz")
    return train, valid


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/ImageNet_1K of a repository of its own."""
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    target = tmp_path / "data" / "ImageNet_1K"
    dataset = datasets.DATASETS["imagenet_1k"]._replace(source=target)
    monkeypatch.setitem(datasets.DATASETS, "imagenet_1k", dataset)
    (tmp_path / "data").mkdir()
    return target


ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")


def test_imagenet_is_made_beside_its_archives(imagenet: Path) -> None:
    train, valid = make_imagenet(imagenet)
    archives = contents(imagenet)
    output = make("imagenet_1k")
    assert images_of(imagenet) == {**archives, **train, **valid}
    lines = output.splitlines()
    assert config_line("dataset_name", "ImageNet_1K") in lines
    assert config_line("train_image_dir", "./data/ImageNet_1K/ILSVRC2012_img_train") in lines
    for name in ("valid", "test"):
        assert config_line(f"{name}_image_dir", "./data/ImageNet_1K/ILSVRC2012_img_val") in lines
    assert config_line("class_label_file", "./data/ImageNet_1K_labels_map.txt") in lines
    assert f"{imagenet / ARCHIVES[0]}: 9 images, not the 1,281,167 of the complete archive" in output
    for name in ARCHIVES:  # no longer needed
        (imagenet / name).unlink()
    before = times(imagenet)
    assert "there already, nothing to do" in make("imagenet_1k")
    assert times(imagenet) == before


@pytest.mark.parametrize("first", ["train", "val"])
def test_imagenet_split_that_comes_later_is_added(first: str, imagenet: Path, tmp_path: Path) -> None:
    train, valid = make_imagenet(tmp_path / "source")
    imagenet.mkdir()
    for name in ARCHIVES:
        if first in name or "devkit" in name:
            shutil.copy(tmp_path / "source" / name, imagenet)
    output = make("imagenet_1k")
    expected, other = (train, "val") if first == "train" else (valid, "train")
    found = {name: data for name, data in images_of(imagenet).items() if not name.endswith((".tar", ".gz"))}
    assert found == expected
    assert f"note: ILSVRC2012_img_{other} is missing: add ILSVRC2012_img_{other}.tar and run again" in output
    assert "there already" in make("imagenet_1k")
    make("imagenet_1k", "--source", tmp_path / "source")
    shutil.rmtree(imagenet / "ILSVRC2012_img_train")  # as its line says if the archive has changed
    assert ": complete\n" in make("imagenet_1k", "--source", tmp_path / "source")
    found = {name: data for name, data in images_of(imagenet).items() if not name.endswith((".tar", ".gz"))}
    assert found == {**train, **valid}


def test_imagenet_made_by_hand_counts_as_there_if_its_classes_do(imagenet: Path, tmp_path: Path) -> None:
    train, valid = make_imagenet(tmp_path / "source")
    for name, data in {**train, **valid}.items():
        (imagenet / name).parent.mkdir(parents=True, exist_ok=True)
        (imagenet / name).write_bytes(data)
    assert_refused(call("imagenet_1k"), imagenet, "1,000 classes")
    row = datasets.DATASETS["imagenet_1k"]
    datasets.DATASETS["imagenet_1k"] = row._replace(classes=3)  # the fixture puts it back
    assert "there already, nothing to do" in make("imagenet_1k")


def harm_imagenet(folder: Path, harm: str) -> str:
    """Damage one archive; gives the word that must name it."""
    train, valid, devkit = (folder / name for name in ARCHIVES)
    if harm == "no archives":
        train.unlink(), valid.unlink()
    elif harm == "no devkit":
        devkit.unlink()
    elif harm == "swapped":
        train.write_bytes(valid.read_bytes())
    elif harm == "class archive cut":
        data = train.read_bytes()
        train.write_bytes(tar_of({"n01440764.tar": tar_of({"a.JPEG": b"x" * 2000})[:1500]}) or data)
    elif harm == "cut":
        train.write_bytes(train.read_bytes()[:-12_000])
    elif harm == "hostile class":
        train.write_bytes(tar_of({"../n01440764.tar": tar_of({"a.JPEG": b"x"})}))
    elif harm == "hostile image":
        train.write_bytes(tar_of({"n01440764.tar": tar_of({"../../../a.JPEG": b"x"})}))
    elif harm == "no image":
        train.write_bytes(tar_of({"n01440764.tar": tar_of({"run.sh": b"x"})}))
    elif harm == "unknown image":
        valid.write_bytes(tar_of({"ILSVRC2012_val_00000007.JPEG": b"x"}))
    elif harm == "unknown class":
        make_devkit(devkit, ids=(4, 1, 2, 2, 1, 3))
    elif harm == "class that leads out":
        make_devkit(devkit, synsets=("n02119789", "../../../out", "n02100735"))
    elif harm == "damaged meta":
        with tarfile.open(devkit, "w:gz") as archive:
            add_to_tar(archive, "x/data/meta.mat", bytes(range(256)) * 9)
            add_to_tar(archive, "x/data/ILSVRC2012_validation_ground_truth.txt", b"1\n")
    elif harm == "meta that unpacks to much":
        packed = zlib.compress(bytes(2**26))
        with tarfile.open(devkit, "w:gz") as archive:
            add_to_tar(
                archive,
                "x/data/meta.mat",
                b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(packed)) + packed,
            )
            add_to_tar(archive, "x/data/ILSVRC2012_validation_ground_truth.txt", b"1\n")
    names = {"no archives": ARCHIVES[0], "unknown image": ARCHIVES[1]}
    is_devkit = harm.startswith(("no devkit", "unknown class", "class that", "damaged", "meta"))
    return names.get(harm, ARCHIVES[2] if is_devkit else ARCHIVES[0])


HARMS = (
    *("no archives", "no devkit", "swapped", "class archive cut", "cut", "hostile class", "hostile image", "no image"),
    *("unknown image", "unknown class", "class that leads out", "damaged meta", "meta that unpacks to much"),
)


@pytest.mark.parametrize("harm", HARMS)
def test_imagenet_archive_that_is_damaged_or_hostile_is_named(harm: str, imagenet: Path, tmp_path: Path) -> None:
    make_imagenet(imagenet)
    name = harm_imagenet(imagenet, harm)
    before = times(tmp_path)
    assert_refused(call("imagenet_1k"), name)
    work = imagenet.with_name(".ImageNet_1K.partial")
    after = {path for path in times(tmp_path) if not path.is_relative_to(work)}
    assert after == before.keys()


def test_imagenet_archive_with_all_images_but_another_checksum_is_refused(
    imagenet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import imagenet as published

    make_imagenet(imagenet)
    monkeypatch.setitem(imagenet_sources.IMAGENET_IMAGES, "train", 9)
    assert_refused(call("imagenet_1k"), ARCHIVES[0], "damaged", "1d675b47d978889d74fa0da5fadfb00e")
    sums = {
        split: (name, hashlib.md5((imagenet / name).read_bytes()).hexdigest())
        for split, (name, _) in published.ARCHIVE_META.items()
    }
    monkeypatch.setattr(published, "ARCHIVE_META", sums)
    assert "complete archive" not in make("imagenet_1k")


# Caltech


def caltech_files(top: str, classes: tuple[str, ...], number: int = 10) -> dict[str, bytes]:
    random = np.random.default_rng(5)
    return {
        f"{top}/{name}/image_{place:04d}.jpg": random.bytes(250) for name in classes for place in range(1, number + 1)
    }


@pytest.mark.parametrize("kind", ["zip of tar.gz", "tar.gz", "folder"])
def test_caltech101_is_read_from_its_archive_in_an_archive(kind: str, tmp_path: Path) -> None:
    files = caltech_files("101_ObjectCategories", ("accordion", "Faces_easy"))
    background = caltech_files("101_ObjectCategories", ("BACKGROUND_Google",), 3)
    hidden = {"101_ObjectCategories/accordion/._image_0001.jpg": b"x", "101_ObjectCategories/accordion/tmp": b"x"}
    everything = {**hidden, **background, **files}
    source = make_source("tar.gz" if "tar" in kind else "folder", tmp_path, everything)
    if kind.startswith("zip"):
        with zipfile.ZipFile(tmp_path / "caltech-101.zip", "w") as archive:
            archive.writestr("caltech-101/Annotations.tar", b"not read")
            archive.writestr("__MACOSX/caltech-101/._Annotations.tar", b"not read")
            archive.write(source, "caltech-101/101_ObjectCategories.tar.gz")
        source = tmp_path / "caltech-101.zip"
    output = make("caltech101", "--source", source, "--target", tmp_path / "C")
    found = images_of(tmp_path / "C")
    assert {name.partition("/")[2]: data for name, data in found.items()} == {
        name.partition("/")[2]: data for name, data in files.items()
    }
    assert Counter(name.rpartition("/")[0] for name in found) == {
        **{f"train/{name}": 8 for name in ("accordion", "Faces_easy")},
        **{f"valid/{name}": 2 for name in ("accordion", "Faces_easy")},
    }
    assert output.count("left out 3 images of the class BACKGROUND_Google") == 1


def test_caltech256_leaves_out_clutter_and_what_is_not_an_image_of_a_class(tmp_path: Path) -> None:
    top = "256_ObjectCategories"
    files = caltech_files(top, ("001.ak47", "056.dog", "198.spider"), 5)
    others = {f"{top}/056.dog/greg/vision309/1.jpg": b"x", f"{top}/198.spider/RENAME2": b"x"}
    source = make_source("tar", tmp_path, {**files, **others, **caltech_files(top, ("257.clutter",), 2)})
    output = make("caltech256", "--source", source, "--target", tmp_path / "C")
    found = images_of(tmp_path / "C")
    assert sorted(found.values()) == sorted(files.values())
    assert {name.split("/")[1] for name in found} == {"001.ak47", "056.dog", "198.spider"}
    for words in (
        "left out 2 images of the class 257.clutter",
        "left out 2 images or other files, not <class>/<image>",
    ):
        assert words in output
    assert "note: 15 images, the published dataset has 29,780" in output


def test_hostile_archive_in_an_archive_writes_nothing(tmp_path: Path) -> None:
    inner = tar_of(
        {**caltech_files("101_ObjectCategories", ("a", "b")), "101_ObjectCategories/a/../../../../x.jpg": b"x"}
    )
    source = make_source("zip", tmp_path, {"caltech-101/101_ObjectCategories.tar.gz": gzip.compress(inner)})
    assert_refused(call("caltech101", "--source", source, "--target", tmp_path / "C"), source, "do not use")
    assert os.listdir(tmp_path) == [source.name]


@pytest.mark.parametrize("name", ["mnist", "cifar100", "caltech101", "caltech256", "tiny_imagenet_200", "folder"])
def test_archive_of_another_dataset_is_refused(name: str, tmp_path: Path) -> None:
    source = make_source("tar.gz", tmp_path, {"README": b"text", "code/main.c": b"text"})
    assert_refused(call(name, "--source", source, "--target", tmp_path / "out" / "X"), source)
    assert os.listdir(tmp_path) == [source.name]


# One's own folder


@pytest.fixture
def flowers() -> dict[str, bytes]:
    random = np.random.default_rng(6)
    names = [f"daisy/{number}.jpg" for number in range(7)] + [f"rose/{number}.PNG" for number in range(2)]
    names += [
        "rose/garden/1.jpg",
        "rose/garden/old/1.webp",
        "rose/2.JPE",
        "rose/3.jfif",
        "daisy/IMG_4.HEIC",
        "daisy/5.avif",
    ]
    return {name: random.bytes(100) for name in names}


def expected_split(files: dict[str, bytes], share: float, seed: int) -> dict[str, bytes]:
    """The documented rule, written down a second time: the first by SHA-256 of "seed/class/name" are valid."""
    result = {}
    for class_name in sorted({name.split("/")[0] for name in files}):
        names = [name for name in files if name.startswith(class_name + "/")]
        names.sort(key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
        count = max(1, min(len(names) - 1, int(share * len(names) + 0.5)))
        result |= {f"{'valid' if place < count else 'train'}/{name}": files[name] for place, name in enumerate(names)}
    return result


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
    assert "left out 1 images outside class folders" in output
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
    assert "left out 1 images outside class folders" in output


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


def test_own_folder_is_named_after_its_source(
    tmp_path: Path, flowers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    source = make_source("tar.gz", tmp_path, flowers)
    output = make("folder", "--source", source)
    assert len(images_of(tmp_path / "data" / "source")) == len(flowers)
    assert config_line("dataset_name", "source") in output.splitlines()
    assert "image_dir" not in output


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


# --short-side


@pytest.fixture(scope="module")
def photos() -> dict[str, bytes]:
    """Smooth pictures of several sizes and formats in two classes."""
    files = {}
    for number, (width, height, suffix) in enumerate(
        [(300, 200, "jpg"), (120, 410, "png"), (64, 90, "jpg"), (63, 400, "JPEG"), (65, 65, "bmp"), (64, 64, "png")]
    ):
        x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 4, height))
        levels = [127 + 120 * np.sin(x * (1 + channel) + y + number) for channel in range(3)]
        image, buffer = Image.fromarray(np.stack(levels, -1).astype(np.uint8)), io.BytesIO()
        image.save(buffer, format={"jpg": "JPEG", "JPEG": "JPEG", "png": "PNG", "bmp": "BMP"}[suffix])
        files[f"class{number % 2}/{number}.{suffix}"] = buffer.getvalue()
    return files


def test_short_side_stores_larger_images_smaller_and_keeps_the_rest(tmp_path: Path, photos: dict[str, bytes]) -> None:
    source = make_source("zip", tmp_path, photos)
    assert run("folder", "--source", source, "--target", tmp_path / "P", "--short-side", "64").returncode == 0
    found = {name.partition("/")[2]: data for name, data in images_of(tmp_path / "P").items()}
    sizes = {"class0/0.jpg": (96, 64), "class1/1.png.jpg": (64, 218), "class0/4.bmp.jpg": (64, 64)}
    for name, size in sizes.items():
        with (
            Image.open(io.BytesIO(found[name])) as stored,
            Image.open(io.BytesIO(photos[name if name in photos else name.removesuffix(".jpg")])) as original,
        ):
            assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", size)
            expected, again = original.convert("RGB").resize(size, Image.Resampling.BILINEAR), io.BytesIO()
            expected.save(again, "JPEG", quality=95)
            with Image.open(again) as pillow:
                assert stored.quantization == pillow.quantization  # the tables of quality 95
                difference = np.abs(np.asarray(stored, dtype=int) - np.asarray(pillow))
                assert difference.max() <= 8 and difference.mean() < 1
    kept = {"class0/2.jpg", "class1/3.JPEG", "class1/5.png"}
    assert found.keys() == sizes.keys() | kept
    assert all(found[name] == photos[name] for name in kept)


@pytest.mark.parametrize("data", [b"", b"no image", b"cut"])
def test_short_side_names_an_image_that_cannot_be_read(data: bytes, tmp_path: Path, photos: dict[str, bytes]) -> None:
    if data == b"cut":
        data = photos["class0/0.jpg"][:-300]
    source = make_source("zip", tmp_path, {**photos, "class0/bad.jpg": data})
    result = call("folder", "--source", source, "--target", tmp_path / "P", "--short-side", "64")
    assert_refused(result, source, "class0/bad.jpg")
    assert os.listdir(tmp_path) == [source.name]


# Photos that the camera noted as turned


def turned_photo(orientation: int, kind: str = "JPEG", size: tuple[int, int] = (96, 64)) -> bytes:
    """A picture that is dark on the left and green at the bottom, so that no two ways to turn it look the same."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8)).save(buffer, kind, exif=exif)
    return buffer.getvalue()


def upright(data: bytes) -> Image.Image:
    """As Pillow turns it."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image.convert("RGB"))


def difference(stored: bytes, expected: Image.Image) -> np.ndarray:
    """In levels. The image must have the right size and no orientation."""
    with Image.open(io.BytesIO(stored)) as image:
        assert image.size == expected.size and 274 not in image.getexif()
        return np.abs(np.asarray(image.convert("RGB"), dtype=int) - np.asarray(expected))


@pytest.fixture(scope="module")
def phone() -> dict[str, bytes]:
    """Two classes of photos with every orientation and in several kinds."""
    files = {f"a/{number}.jpg": turned_photo(number) for number in range(1, 9)}
    files |= {
        "b/jfif.JFIF": turned_photo(6),
        "b/png.png": turned_photo(8, "PNG"),
        "b/webp.webp": turned_photo(3, "WEBP"),
    }
    files |= {"b/avif.avif": turned_photo(6, "AVIF"), "b/tiff.tif": turned_photo(6, "TIFF")}
    return files | {
        "b/plain.png": turned_photo(1, "PNG"),
        "b/cut.jpg": turned_photo(6)[:-200],
        "b/odd.jpg": b"no image",
    }


KEPT = {"a/1.jpg", "b/plain.png", "b/cut.jpg", "b/odd.jpg"}


def test_photos_are_turned_upright(tmp_path: Path, phone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["folder", "--source", make_source("zip", tmp_path, phone), "--target", tmp_path / "F"]
    interrupt_with_full_disk(monkeypatch, *arguments)
    output = make(*arguments)
    assert "continuing" in output
    found = {name.partition("/")[2]: data for name, data in images_of(tmp_path / "F").items()}
    assert {name: found.pop(name) for name in KEPT} == {name: phone[name] for name in KEPT}
    assert found.keys() == {
        *(f"a/{number}.jpg" for number in range(2, 9)),
        *("b/jfif.JFIF", "b/png.png", "b/webp.webp.jpg", "b/avif.avif.jpg", "b/tiff.tif.jpg"),
    }
    for name, data in found.items():
        off = difference(data, upright(phone.get(name) or phone[name.removesuffix(".jpg")]))
        assert off.max() <= 6 if "png" not in name else not off.any()
    with Image.open(io.BytesIO(found["a/6.jpg"])) as image, io.BytesIO() as again:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # colours as fine as brightness
        image.save(again, "JPEG", quality=95)
        with Image.open(again) as pillow:
            assert image.quantization == pillow.quantization
    assert "note: 12 photos were turned upright, as their camera noted" in output
    assert re.search(r"  line \d+: apply_orientation = True$", output, re.M)
    second = make(*arguments)
    assert "there already, nothing to do" in second
    assert second.splitlines()[1:] == output.splitlines()[2:]
    record = json.loads((tmp_path / "F/prepare_dataset.json").read_text())
    del record["turned"]  # as the version before had it
    (tmp_path / "F/prepare_dataset.json").write_text(json.dumps(record))
    advice = f"if there are any, rm -r {tmp_path / 'F'}, then the same command, makes it anew"
    assert f"there already, but made by a version that left photos on their side; {advice}" in make(*arguments)
    make(*arguments[:-1], tmp_path / "straight")
    assert images_of(tmp_path / "F") == images_of(tmp_path / "straight")


def test_short_side_turns_photos_upright(tmp_path: Path) -> None:
    photos = {f"train/{name}/1.jpg": turned_photo(6) for name in CLASSES}
    photos |= {f"valid/{name}/1.jpg": turned_photo(8, size=(48, 32)) for name in CLASSES}
    photos |= {"train/cat/2.png": turned_photo(5, "PNG"), "valid/cat/2.png": turned_photo(7, "PNG", size=(32, 60))}
    arguments = ["cifar10", "--source", make_source("tar", tmp_path, photos)]
    output = make(*arguments, "--target", tmp_path / "F", "--short-side", 32)
    found = images_of(tmp_path / "F")
    for name, data in photos.items():
        expected = upright(data)
        if is_longer := min(expected.size) > 32:
            expected = expected.resize([side // 2 for side in expected.size], Image.Resampling.BILINEAR)
        stored = found.pop(name + ".jpg" if name == "train/cat/2.png" else name)
        assert difference(stored, expected).max() <= (8 if is_longer else 6)
    assert not found
    assert "note: 22 photos were turned upright" in output and "apply_orientation = True" in output
    output = make(*arguments, "--target", tmp_path / "bytes")  # as others measured with
    assert images_of(tmp_path / "bytes") == photos
    assert "upright" not in output and "apply_orientation" not in output


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """What --short-side sets for its own process."""
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads(), cv2.utils.logging.getLogLevel()
    yield
    if (cv2.getNumThreads(), torch.get_num_threads(), cv2.utils.logging.getLogLevel()) != before:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
        cv2.utils.logging.setLogLevel(before[2])


def test_download_without_a_network_says_what_to_fetch(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and no listen(): every connection is refused
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {"http_proxy": proxy, "https_proxy": proxy}
        result = run("cifar10", "--target", tmp_path / "out" / "CIFAR10", env=environment)
    assert_refused(result, "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "--source cifar-10-python.tar.gz")
    assert os.listdir(tmp_path) == []


# Interruption

# The script, killed when it moves a file for the n-th time: recipe, 50 images, record, two splits, record.
KILLED = """
import os, runpy, signal, sys
left = int(sys.argv.pop(1))
def counting(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
os.replace, os.rename = counting(os.replace), counting(os.rename)
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("moves", [0, 1, 25, 51, 52, 53, 54, 55])
def test_killed_run_is_continued_to_the_same_result(moves: int, tmp_path: Path, images: dict[str, bytes]) -> None:
    source, target = make_source("tar", tmp_path, images), tmp_path / "out" / "CIFAR10"
    command = [sys.executable, "-c", KILLED, moves, SCRIPT, "cifar10", "--source", source, "--target", target]
    assert subprocess.run([str(word) for word in command], timeout=60).returncode == -signal.SIGKILL
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
    command = [sys.executable, "-c", KILLED, moves, SCRIPT, *arguments, tmp_path / "killed"]
    assert subprocess.run([str(word) for word in command], timeout=60).returncode == -signal.SIGKILL
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


def interrupt_with_full_disk(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Run until a fifth image does not fit on the disk."""
    written = []

    def write_bytes(path: Path, data: bytes) -> int:
        if "writing" in path.parts:
            written.append(path)
            if len(written) > 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        with path.open("wb") as file:
            return file.write(data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        assert_refused(call(*arguments), "No space left on device", "continues")


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


@pytest.mark.parametrize("order", [1, -1])
def test_short_side_refuses_two_images_that_get_one_name(order: int, tmp_path: Path, photos: dict[str, bytes]) -> None:
    png, jpeg = photos["class1/1.png"], photos["class0/0.jpg"]
    files = {"train/a/1.png": png, "train/a/1.png.jpg": jpeg, "train/b/1.png": png}
    files |= {"valid/a/1.png": png, "valid/b/1.png": png}
    source = make_source("tar", tmp_path, dict(list(files.items())[::order]))
    arguments = ["folder", "--source", source, "--target", tmp_path / "F"]
    result = call(*arguments, "--short-side", 64)
    assert_refused(result, source, "a/1.png' and", "a/1.png.jpg' get the same name; rename one")
    make(*arguments)
    assert images_of(tmp_path / "F") == files


@pytest.mark.parametrize("run_number", [1, 2])
def test_index_that_cannot_be_written_is_a_note(
    run_number: int, tmp_path: Path, flowers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataset

    arguments = ["folder", "--source", make_source("zip", tmp_path, flowers), "--target", tmp_path / "F"]
    if run_number == 2:
        make(*arguments)
        for path in (tmp_path / "F").glob("*.npz"):
            path.unlink()

    def write_index(folder: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{folder}.partial")

    monkeypatch.setattr(dataset, "write_index", write_index)
    output = make(*arguments)
    for split in ("train", "valid"):
        assert f"note: no index file: {tmp_path / 'F' / split}.index.npz: Permission denied" in output
    assert "config.py" in output


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


def test_target_of_the_older_script_counts_as_there(digits: tuple[Path, Path, str], tmp_path: Path) -> None:
    for split in ("train", "valid"):
        shutil.copytree(digits[1] / split, tmp_path / "Digits" / split)
    assert "there already, nothing to do" in make("digits", "--target", tmp_path / "Digits")
    assert (tmp_path / "Digits" / "train.index.npz").exists()


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
    from dataset import read_index

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
    assert "with 1 images more than when it was made" in make(*arguments)
    shutil.rmtree(tmp_path / "F" / "valid" / "rose")
    assert_refused(call(*arguments), "no images of class rose in valid", "put them back, or move it away")


def test_link_that_leads_nowhere_is_left_out(tmp_path: Path, flowers: dict[str, bytes]) -> None:
    source = make_source("folder", tmp_path, flowers)
    (source / "daisy" / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    for _ in range(2):
        assert "another source" not in make("folder", "--source", source, "--target", tmp_path / "F")
    assert images_of(tmp_path / "F") == expected_split(flowers, 0.2, 0)


def test_notes_of_the_first_run_are_shown_again(tmp_path: Path, flowers: dict[str, bytes]) -> None:
    source = make_source("zip", tmp_path, {**flowers, "logo.png": b"x"})
    arguments = ["folder", "--source", source, "--target", tmp_path / "F"]
    outputs = [make(*arguments).splitlines() for _ in range(3)]
    assert f"note: {source}: left out 1 images outside class folders" in outputs[0]
    assert outputs[0][1:] == outputs[1][1:] == outputs[2][1:]


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


# Download


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file and counts the requests for it."""

    data, requests = b"", 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.wfile.write(self.data)

    do_HEAD = do_GET  # torchvision looks for redirections first

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves a small 256_ObjectCategories.tar in place of the published one."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = caltech_files("256_ObjectCategories", ("001.ak47", "056.dog"), 5)
    monkeypatch.setattr(Server, "data", tar_of(files))
    monkeypatch.setattr(Server, "requests", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{listening.server_port}/256_ObjectCategories.tar"
        md5 = hashlib.md5(Server.data).hexdigest()
        monkeypatch.setitem(downloads.FIXED, "caltech256", downloads.Download((url,), md5))
        yield url
        listening.shutdown()
        thread.join()


def test_download_is_checked_kept_over_an_interruption_and_removed(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = monkeypatch.context()
    with interrupt as patch:
        patch.setattr(work_folder, "write_sample", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert call("caltech256", "--target", tmp_path / "C").returncode == 130
    requests = Server.requests
    assert requests > 0
    result = call("caltech256", "--target", tmp_path / "C")
    assert result.returncode == 0, result.stderr
    assert Server.requests == requests
    assert sorted(images_of(tmp_path / "C").values()) == sorted(
        caltech_files("256_ObjectCategories", ("001.ak47", "056.dog"), 5).values()
    )
    assert os.listdir(tmp_path) == ["C"]


def test_download_with_another_checksum_is_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "data", Server.data[:-1] + b"x")
    result = call("caltech256", "--target", tmp_path / "C")
    assert result.returncode == 2 and not (tmp_path / "C").exists()
    assert f"cannot download {server}" in result.stderr and "--source 256_ObjectCategories.tar" in result.stderr


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


# The label map


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


def test_suffixes_are_those_the_program_reads() -> None:
    import imgproc

    assert sources.IMAGE_SUFFIXES == imgproc.IMAGE_SUFFIXES
