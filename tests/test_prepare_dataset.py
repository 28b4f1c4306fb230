# SPDX-License-Identifier: Apache-2.0
"""scripts/prepare_dataset.py, run as a user runs it, and the files of data/."""

import ast
import csv
import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "scripts" / "prepare_dataset.py"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def run(*arguments: object, script: Path = SCRIPT, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    with gzip.open(REPOSITORY / "data" / "digits.csv.gz", "rt") as file:
        return [[int(value) for value in line] for line in csv.reader(file)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A repository in which the script was run from elsewhere without options: script, result, standard output."""
    root = tmp_path_factory.mktemp("repository")
    (root / "scripts").mkdir()
    (root / "data").mkdir()
    shutil.copy(SCRIPT, root / "scripts")
    shutil.copy(REPOSITORY / "data" / "digits.csv.gz", root / "data")
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
    files = {split: Counter(path.parent.name for path in target.glob(f"{split}/*/*")) for split in os.listdir(target)}
    assert sorted(files) == ["train", "valid"]
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
    assert 'config.py: dataset_name = "Digits"' in output.splitlines()
    assert "config.py line 34: model_num_classes = 10" in output.splitlines()
    assert "image_dir" not in output


def test_line_34_of_config_is_the_one_named() -> None:
    assert (REPOSITORY / "config.py").read_text().splitlines()[33].startswith("model_num_classes = ")


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
    assert result.returncode == 0, result.stderr
    for name, split in (("train", "train"), ("valid", "valid"), ("test", "valid")):
        assert f'config.py: {name}_image_dir = "{tmp_path / "Mine" / split}"' in result.stdout.splitlines()
        assert len(list((tmp_path / "Mine" / split).glob("*/*.png"))) == {"train": 1437, "valid": 360}[split]


def test_incomplete_target_is_refused_and_left_alone(digits: tuple[Path, Path, str], tmp_path: Path) -> None:
    target = tmp_path / "Digits"
    shutil.copytree(digits[1], target)
    next(target.glob("valid/4/*")).unlink()
    before = times(tmp_path)
    assert_refused(run("digits", "--target", target), f"{target}: 359 images in valid", "360", "run again")
    assert times(tmp_path) == before


def test_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Digits").write_text("mine")
    assert_refused(run("digits", "--target", tmp_path / "Digits"), tmp_path / "Digits")
    assert contents(tmp_path) == {"Digits": b"mine"}


@pytest.mark.parametrize("damage", ["cut", "line", "value"])
def test_damaged_digits_file_is_named(damage: str, tmp_path: Path, digit_lines: list[list[int]]) -> None:
    packed = (REPOSITORY / "data" / "digits.csv.gz").read_bytes()
    text = gzip.decompress(packed)
    source = tmp_path / "digits.csv.gz"
    source.write_bytes(
        {
            "cut": packed[:-1000],
            "line": gzip.compress(text[: text.rindex(b"\n", 0, -1) + 1]),
            "value": gzip.compress(text.replace(b",16,", b",17,", 1)),
        }[damage]
    )
    assert_refused(run("digits", "--source", source, "--target", tmp_path / "new" / "Digits"), source)
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
    result = run("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == {f"CIFAR10/{name}": data for name, data in images.items()}
    rows = [line.split()[:4] for line in result.stdout.splitlines()]
    for split in ("train", "valid"):
        data = [data for name, data in images.items() if name.startswith(split)]
        assert [split, "10", str(len(data)), f"{sum(map(len, data)):,}"] in rows
    assert "50,000" in result.stdout and "10,000" in result.stdout  # says that this is not all of CIFAR-10


def test_images_that_are_left_out_are_counted(tmp_path: Path, images: dict[str, bytes]) -> None:
    source = make_source("zip", tmp_path, {**images, "test/cat/1.png": b"x", "train/cat/more/2.png": b"x"})
    result = run("cifar10", "--source", source, "--target", tmp_path / "CIFAR10")
    assert result.returncode == 0, result.stderr
    assert f"{source}: left out 2 images" in result.stdout
    assert contents(tmp_path / "CIFAR10") == images


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
    result = run("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert result.stderr.count("\n") == 1 and result.returncode == 2
    for word in (source, *words):
        assert str(word) in result.stderr
    assert os.listdir(tmp_path) == [source.name]


def test_name_twice_in_an_archive_is_refused(tmp_path: Path, images: dict[str, bytes]) -> None:
    source = make_source("tar", tmp_path, images)
    with tarfile.open(source, "a") as archive:
        add_to_tar(archive, "train/cat/0000.jpg", b"another")
    result = run("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert_refused(result, f"{source}: holds 'train/cat/0000.jpg' twice")
    assert os.listdir(tmp_path) == [source.name]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("text"), lambda path: path.mkdir()])
def test_source_that_is_missing_or_of_no_use_is_named(make: object, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make(source)
    before = times(tmp_path)
    assert_refused(run("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10"), source)
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
    result = run("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
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
    assert_refused(run("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10"), source, "do not use")
    assert sorted(os.listdir(tmp_path)) == [source.name, "outside"]
    assert times(outside) == before and contents(outside) == {"secret": b"secret"}


def test_header_that_claims_8_gib_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 2**33
    source = tmp_path / "hostile.tar.gz"
    source.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    assert_refused(run("cifar10", "--source", source, "--target", tmp_path / "CIFAR10"), source, "header of 8589934592")
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
    result = run("cifar10", "--source", source, "--target", tmp_path / "out" / "CIFAR10")
    assert_refused(result, source, "cifar-10-batches-py/data_batch_1")
    assert sorted(os.listdir(tmp_path)) == [source.name, "control"]


# CIFAR-10 from its batches

# The script with other published checksums, and with a download that fails.
WITH_CHECKSUMS = """
import json, runpy, sys
from torchvision.datasets import CIFAR10
sums = json.loads(sys.argv.pop(1))
CIFAR10.train_list = [[name, sums[name]] for name in sums if name.startswith("data_batch")]
CIFAR10.test_list = [["test_batch", sums["test_batch"]]]
CIFAR10.meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
CIFAR10.download = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_batches_become_png_files_of_their_classes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 3072), dtype=np.uint8)  # 1,024 red values, then green, then blue
    labels = [(3 * place + 1) % 10 for place in range(20)]
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CLASSES)}))
    for number in range(5):
        part = slice(2 * number, 2 * number + 2)
        batch = {"data": pixels[part], "labels": labels[part]}
        (folder / f"data_batch_{number + 1}").write_bytes(pickle.dumps(batch))
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels[10:], "labels": labels[10:]}))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    arguments = [json.dumps(sums), SCRIPT, "cifar10", "--source", folder, "--target", tmp_path / "CIFAR10"]
    command = [sys.executable, "-c", WITH_CHECKSUMS, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    expected = {}
    for place in range(20):
        split, number = ("train", place) if place < 10 else ("valid", place - 10)
        rows = [bytes(pixels[place, [at, 1024 + at, 2048 + at]]) for at in range(1024)]
        expected[f"{split}/{CLASSES[labels[place]]}/{number:05d}.png"] = b"".join(rows)
    found = {}
    for name in contents(tmp_path / "CIFAR10"):
        with Image.open(tmp_path / "CIFAR10" / name) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))
            found[name] = image.tobytes()
    assert found == expected
    assert sorted(os.listdir(tmp_path)) == ["CIFAR10", folder.name]


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


def raise_timeout(*_: object) -> None:
    raise TimeoutError("the script did not open its source")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    source = tmp_path / "source"
    os.mkfifo(source)
    process = subprocess.Popen(
        [
            sys.executable,
            str(SCRIPT),
            "cifar10",
            "--source",
            str(source),
            "--target",
            str(tmp_path / "out" / "CIFAR10"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )
    previous = signal.signal(signal.SIGALRM, raise_timeout)
    signal.alarm(60)
    try:
        with source.open("wb"):  # returns when the script opens the other end
            assert os.listdir(tmp_path / "out") == [f".CIFAR10.partial-{process.pid}"]
            process.send_signal(number)
            _, error = process.communicate()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        process.kill()
    assert process.returncode == 130
    assert error == "prepare_dataset.py: interrupted; nothing was left behind\n"
    assert os.listdir(tmp_path) == ["source"]


# The label map


def test_label_map_has_the_published_classes_in_order() -> None:
    from torchvision.models import MobileNet_V2_Weights

    text = (REPOSITORY / "data" / "ImageNet_1K_labels_map.txt").read_text("ascii")
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

    line = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("IMAGE_SUFFIXES = "))
    assert ast.literal_eval(line.partition("=")[2].partition("#")[0].strip()) == imgproc.IMAGE_SUFFIXES
