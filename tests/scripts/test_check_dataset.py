# SPDX-License-Identifier: Apache-2.0
"""scripts/check_dataset.py run as a user would, on folders whose faults are known because the tests made them."""

import io
import itertools
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import numpy as np
import pytest
from command_runs import ENVIRONMENT, run_command
from conftest import ROOT, ready_interpreter
from PIL import Image

import check_dataset
from checking import inspection
from core import image_files, image_names
from shared import command_line
from shared.small_training import write_images

SCRIPT = ROOT / "scripts/check_dataset.py"
COMMAND = [sys.executable, "-W", "error"]


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script in the parent of the folder; it writes nothing but what it is asked to."""
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    done = run_command(SCRIPT, folder.name, *arguments, folder=folder.parent)
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before
    return done


def findings(output: str) -> dict[str, list[str]]:
    """Heading of each kind of finding ("Problem: 2 unreadable images") -> its lines."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        if line.startswith(("Problem: ", "Warning: ")):
            found[line] = []
        elif line.startswith("    "):
            found[list(found)[-1]].append(line.strip())
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound dataset: 3 classes, 4 images each for training and 2 for validation, of 36 x 30."""
    write_images(tmp_path / "Colours/train", 4)
    write_images(tmp_path / "Colours/valid", 2, seed=1)
    return tmp_path / "Colours"


def test_sound_dataset_passes(folder: Path) -> None:
    done = check(folder, "--list", "bad.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "train: 12 images in 3 classes; smallest blue (4), largest blue (4, 1.0 times as many)",
        "valid: 6 images in 3 classes; smallest blue (2), largest blue (2, 1.0 times as many)",
        "pixels: width 36 to 36 (median 36), height 30 to 30 (median 30), shortest side 30 to 30 (median 30)",
        "kinds: RGB 18; 0 with a camera orientation other than upright",
        "Colours: 18 images, 0 unreadable, 0 warnings; training works.",
    ]
    assert (folder.parent / "bad.txt").read_bytes() == b""


@pytest.mark.parametrize("names", [("ILSVRC2012_img_train", "ILSVRC2012_img_val"), ("", None)])
def test_each_layout_is_understood(names: tuple[str, str | None], folder: Path) -> None:
    train, valid = names
    if valid is None:
        folder = folder / "train"
    else:
        (folder / "train").rename(folder / train)
        (folder / "valid").rename(folder / valid)
    done = check(folder)
    assert done.returncode == 0
    assert f": {12 if valid is None else 18} images, 0 unreadable" in done.stdout


def photo(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_every_unreadable_image_is_named_and_listed(folder: Path) -> None:
    red = folder / "train/red"
    cut(red / "000.png")
    (red / "001.png").write_bytes(b"")
    (red / "002.png").write_text("<html>404</html>")
    bomb = (folder / "train/blue/000.png").read_bytes()
    (red / "bomb.png").write_bytes(bomb[:16] + b"\0\0\xea\x60\0\0\xea\x60" + bomb[24:])
    photo(0, (2001, 2)).save(red / "long.png")
    os.mkfifo(red / "pipe.png")
    (red / "link.png").symlink_to("nowhere")
    photo(1).save(folder / "valid/red/cut.jpg")
    cut(folder / "valid/red/cut.jpg")
    done = check(folder, "--list", "bad.txt")
    assert (done.returncode, done.stderr) == (1, "")
    lines = findings(done.stdout)["Problem: 8 unreadable images"]
    assert [line.split(":")[0] for line in lines] == [
        *(
            f"Colours/train/red/{name}"
            for name in ("000.png", "001.png", "002.png", "bomb.png", "link.png", "long.png")
        ),
        "Colours/train/red/pipe.png",
        "Colours/valid/red/cut.jpg",
    ]
    reasons = [line.split(": ", 1)[1] for line in lines]
    assert reasons[1] == "not a readable image (0 bytes); replace or remove the file"
    assert reasons[3].startswith("claims 60000 x 60000 pixels, above the limit of 178,956,970")
    assert reasons[4].startswith("No such file or directory")
    assert reasons[5] == "2001 x 2 pixels; one side is over 1000 times the other"
    assert reasons[6].startswith("not a regular file")
    assert (folder.parent / "bad.txt").read_text().splitlines() == [line.split(":")[0] for line in lines]
    assert done.stdout.splitlines()[-1] == "Colours: 23 images, 8 unreadable, 0 warnings; training would fail."
    assert sorted(os.listdir(folder.parent)) == ["Colours", "bad.txt"]


def test_long_lists_are_cut_in_the_report_but_not_in_the_file(folder: Path) -> None:
    for index in range(50):
        (folder / f"train/red/bad{index:02}.jpg").write_bytes(bytes(index))
    done = check(folder, "--list", "bad.txt")
    lines = findings(done.stdout)["Problem: 50 unreadable images"]
    assert len(lines) == 21
    assert lines[-1] == "and 30 more"
    assert (folder.parent / "bad.txt").read_text() == "".join(f"Colours/train/red/bad{i:02}.jpg\n" for i in range(50))


def test_odd_names_cannot_forge_lines(folder: Path) -> None:
    name = b"a\nb\\c\x1b[2J\xff.png"
    with open(os.path.join(os.fsencode(folder / "train/red"), name), "wb"):
        pass
    done = check(folder, "--list", "bad.txt")
    (line,) = findings(done.stdout)["Problem: 1 unreadable image"]
    assert line.startswith(r"Colours/train/red/a\nb\c\x1b[2J\udcff.png: not a readable image")
    assert (folder.parent / "bad.txt").read_bytes() == b"Colours/train/red/a\\nb\\\\c\x1b[2J\xff.png\n"


def test_wrong_suffix_is_a_warning(folder: Path) -> None:
    photo(0).save(folder / "train/red/photo.png", "JPEG")
    photo(1).save(folder / "train/red/photo.jpeg", "WEBP")
    photo(2).save(folder / "train/red/right.JPEG", "JPEG")
    done = check(folder)
    assert done.returncode == 0
    assert findings(done.stdout) == {
        "Warning: 2 wrong suffixes, which do no harm": [
            "Colours/train/red/photo.jpeg: is WebP",
            "Colours/train/red/photo.png: is JPEG",
        ]
    }


def damaged_jpeg(seed: int) -> bytes:
    """Half of its pixels are missing, but not its end marker, so that libjpeg fills in grey and says so."""
    buffer = io.BytesIO()
    photo(seed, (200, 200)).save(buffer, "JPEG")
    return buffer.getvalue()[:4000] + buffer.getvalue()[-2:]


def test_complaints_of_decoders_and_pictures_without_a_picture_are_warnings(folder: Path) -> None:
    red = folder / "train/red"
    (red / "cut.jpg").write_bytes(damaged_jpeg(0))
    buffer = io.BytesIO()
    photo(1).save(buffer, "PNG")
    text = struct.pack(">I", 3) + b"tEXta\0b" + bytes(4)  # after the header, with a wrong checksum
    (red / "text.png").write_bytes(buffer.getvalue()[:33] + text + buffer.getvalue()[33:])
    Image.new("RGB", (40, 30), (0, 90, 0)).save(red / "plain.gif")
    done = check(folder)
    assert (done.returncode, done.stderr) == (0, "")
    found = findings(done.stdout)
    assert found.pop("Warning: 1 picture of a single colour") == ["Colours/train/red/plain.gif"]
    ((heading, lines),) = found.items()
    assert heading == "Warning: 2 files that load, of which the decoder complained"
    assert lines == [
        "Colours/train/red/cut.jpg: Corrupt JPEG data: premature end of data segment",
        "Colours/train/red/text.png: libpng warning: tEXt: CRC error",
    ]


def test_complaint_is_that_of_its_own_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What one image made a decoder say must not hide, or appear in, what the next one does."""
    said = [b"a long line\n" * 200, b"", b"[ WARN:0@12.345] global grfmt_x.cpp:117 TIFF_Error short: cut\n\n", b"b"]

    def decode(data: np.ndarray, name: str) -> np.ndarray:
        text = said.pop(0)
        os.write(2, text)
        if not text:
            warnings.warn("of Pillow", stacklevel=1)
        return data

    monkeypatch.setattr(inspection, "decode_image", decode)
    terminal = os.dup(2)
    try:
        with (tmp_path / "messages").open("w+b") as messages:
            os.dup2(messages.fileno(), 2)
        complaints = [inspection.decode_listening(np.zeros(1))[1] for _ in range(4)]
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
    assert complaints == ["a long line", "of Pillow", "short: cut", "b"]


def test_tiff_whose_checksum_is_wrong_is_unreadable(folder: Path) -> None:
    path = folder / "train/red/photo.tif"
    photo(0, (60, 60)).save(path, compression="tiff_deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = check(folder)
    assert (done.returncode, done.stderr) == (1, "")
    ((heading, (line,)),) = findings(done.stdout).items()
    assert heading == "Problem: 1 unreadable image"
    assert line.startswith("Colours/train/red/photo.tif: not a readable image")


def test_duplicates(folder: Path) -> None:
    train, valid = folder / "train", folder / "valid"
    shutil.copy(train / "red/000.png", valid / "red/leak.png")
    shutil.copy(train / "red/001.png", train / "red/copy.png")
    shutil.copy(train / "red/002.png", train / "green/other.png")
    for empty in (train / "red/empty.png", valid / "red/empty.png"):
        empty.write_bytes(b"")
    done = check(folder)
    assert done.returncode == 1
    assert "copies: 3 files have the content of another one" in done.stdout.splitlines()
    found = findings(done.stdout)
    del found["Problem: 2 unreadable images"]
    assert found == {
        "Warning: 1 file in both train and valid: the accuracy will look better than it is": [
            "Colours/train/red/000.png = Colours/valid/red/leak.png"
        ],
        "Warning: 1 case of equal files in different classes: their labels contradict each other": [
            "Colours/train/green/other.png = Colours/train/red/002.png"
        ],
    }


def test_two_contradictions_are_two_cases_and_not_one_pair(folder: Path) -> None:
    train = folder / "train"
    for number in (0, 1):
        shutil.copy(train / f"red/00{number}.png", train / f"green/other{number}.png")
    assert findings(check(folder).stdout) == {
        "Warning: 2 cases of equal files in different classes: their labels contradict each other": [
            f"Colours/train/green/other{number}.png = Colours/train/red/00{number}.png" for number in (0, 1)
        ],
    }


def test_classes_missing_or_empty(folder: Path) -> None:
    (folder / "train/only_train").mkdir()
    shutil.copy(folder / "train/red/000.png", folder / "train/only_train/000.png")
    (folder / "valid/only_valid/deeper").mkdir(parents=True)
    (folder / "valid/only_valid/deeper/readme.txt").write_text("no image")
    done = check(folder)
    assert done.returncode == 1
    found = findings(done.stdout)
    assert found["Problem: 2 classes on one side only"] == [
        "Colours/valid/only_train: not there, but Colours/train/only_train is",
        "Colours/train/only_valid: not there, but Colours/valid/only_valid is",
    ]
    assert found["Problem: 1 class folder without images"] == [
        "Colours/valid/only_valid: add images or remove the folder"
    ]


def test_missing_split(folder: Path) -> None:
    shutil.rmtree(folder / "valid")
    done = check(folder)
    assert done.returncode == 1
    assert findings(done.stdout) == {"Problem: 1 missing folder": ["Colours/valid: training needs train and valid"]}


def test_statistics_and_what_is_ignored(folder: Path) -> None:
    train = folder / "train"
    photo(0, (100, 50)).convert("L").save(train / "red/grey.jpg")
    photo(1, (20, 80)).convert("CMYK").save(train / "red/cmyk.jpe", "JPEG")
    exif = Image.Exif()
    exif[274] = 6
    photo(2).save(train / "red/turned.jfif", "JPEG", exif=exif)
    photo(3).save(train / "red/turned.png", exif=exif)
    photo(4).save(train / "red/turned.tif", exif=exif)
    for name in ("red/notes.txt", "red/1.CR2", "red/2.cr2", "red/.DS_Store"):
        (train / name).write_text("")
    (train / ".cache").mkdir()
    photo(3).save(train / ".cache/hidden.png")
    photo(4).save(train / "stray.png")
    done = check(folder)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "train: 17 images in 3 classes; smallest blue (4), largest red (9, 2.2 times as many)",
        "valid: 6 images in 3 classes; smallest blue (2), largest blue (2, 1.0 times as many)",
        "pixels: width 20 to 100 (median 36), height 30 to 80 (median 30), shortest side 20 to 50 (median 30)",
        "kinds: CMYK 1, L 1, RGB 21; 3 with a camera orientation other than upright",
    ]
    assert lines[4].startswith("ignored: 2 hidden files or folders, 1 image outside a class folder, 2 .cr2 (")
    assert re.search(r"\), 1 \.txt\b", lines[4])
    ((heading, turned),) = findings(done.stdout).items()
    assert heading.startswith("Warning: 3 photos that the camera noted as turned")
    assert "apply_orientation = True in config.py, or let prepare_dataset.py folder" in heading
    assert turned == [f"Colours/train/red/turned.{suffix}: orientation 6" for suffix in ("jfif", "png", "tif")]


@pytest.mark.parametrize(
    ("line", "applies"),
    [("apply_orientation = True", True), ("apply_orientation = False", False), ("x = 1", False), ("x = (", False)],
)
def test_orientation_is_applied_where_config_says_so(
    line: str, applies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.py").write_text(line)
    monkeypatch.setattr(command_line, "REPOSITORY", tmp_path)
    assert check_dataset.applies_orientation.__wrapped__() is applies


def test_suffixes_of_kinds_are_those_the_program_reads() -> None:
    assert check_dataset.KIND_SUFFIXES.keys() == image_files.IMAGE_KINDS.keys()
    assert sorted(itertools.chain(*check_dataset.KIND_SUFFIXES.values())) == sorted(image_names.IMAGE_SUFFIXES)


def test_splits_taken_for_classes_are_a_problem(folder: Path) -> None:
    for split in ("train", "test"):
        shutil.move(folder / ("train" if split == "train" else "valid"), folder / f"seg_{split}/seg_{split}")
    done = check(folder)
    assert done.returncode == 1
    ((heading, (line,)),) = findings(done.stdout).items()
    assert heading.startswith("Problem: 1 folder that may be no class; prepare_dataset.py folder --source FOLDER")
    assert line.startswith("Colours: 'seg_test', 'seg_train' called like a split")


def test_report_does_not_depend_on_the_number_of_cores(folder: Path) -> None:
    generator = random.Random(0)
    damaged = unreadable = 0
    for index in range(150):
        path = folder / f"train/{generator.choice(['red', 'green'])}/{generator.random()}.jpg"
        photo(index % 100).save(path)
        if index % 7 == 0:
            cut(path)
            unreadable += 1
        elif index % 2:
            path.write_bytes(damaged_jpeg(index))
            damaged += 1
    process = ready_interpreter().process.pid
    available = os.sched_getaffinity(process)
    os.sched_setaffinity(process, [min(available)])
    try:
        one = check(folder)
    finally:
        os.sched_setaffinity(process, available)
    all_cores = check(folder)
    assert one.returncode == all_cores.returncode == 1
    assert one.stdout == all_cores.stdout
    assert damaged == 64
    assert f"Warning: {damaged} files that load, of which the decoder complained\n" in one.stdout
    assert f"Problem: {unreadable} unreadable images\n" in one.stdout
    assert "\\x00" not in one.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "check_dataset.py: nowhere: no such folder"),
        (["Colours", "--list", "nowhere/bad.txt"], "check_dataset.py: --list nowhere/bad.txt: cannot be written"),
        (["Colours/train/red"], "Colours/train/red: no class folders; expected Colours/train/red/<class>/<image>"),
    ],
)
def test_wrong_use_is_one_line(folder: Path, arguments: list[str], message: str) -> None:
    done = run_command(SCRIPT, *arguments, folder=folder.parent)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


# What becomes of the processes

PATCHED = """
import multiprocessing, os, signal, sys
multiprocessing.set_start_method("fork")  # the workers have the patch, too
sys.path.insert(0, "{root}/scripts")
import check_dataset
from checking import inspection
plain = inspection.inspect_image
def inspect_image(path):
    if path.endswith("victim.png"):
        {action}
    return plain(path)
inspection.inspect_image = inspect_image
sys.exit(check_dataset.main())
"""


def patched_script(action: str) -> str:
    """The script with an action of its workers at images named victim.png."""
    return PATCHED.format(root=ROOT, action=action)


def test_image_that_kills_its_process_is_named(folder: Path) -> None:
    for name in ("red", "green"):
        shutil.copy(folder / "train/red/000.png", folder / f"train/{name}/victim.png")
    (folder.parent / "patched.py").write_text(patched_script("os.kill(os.getpid(), signal.SIGKILL)"))
    done = run_command(folder.parent / "patched.py", "Colours", folder=folder.parent)
    assert (done.returncode, done.stderr) == (1, "")
    reason = "the process that decoded it was killed, for lack of memory or by a defect of the decoder; remove the file"
    assert findings(done.stdout) == {
        "Problem: 2 unreadable images": [f"Colours/train/{name}/victim.png: {reason}" for name in ("green", "red")]
    }
    assert done.stdout.splitlines()[-1].startswith("Colours: 20 images, 2 unreadable")


@pytest.mark.parametrize(
    ("stop", "status", "message"),
    [(signal.SIGINT, 130, "Interrupted; nothing was written.\n"), (signal.SIGKILL, -signal.SIGKILL, "")],
)
def test_stopped_script_leaves_no_process(stop: signal.Signals, status: int, message: str, folder: Path) -> None:
    """The worker holds a pipe open while it waits for ever; the pipe ends with the last process that has it."""
    (folder / "train/red/000.png").rename(folder / "train/red/victim.png")
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "-c", patched_script(f"os.write({writing}, b'here'); signal.pause()"), "Colours"],
        cwd=folder.parent,
        env=ENVIRONMENT,
        pass_fds=[writing],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )
    os.close(writing)
    assert os.read(reading, 100) == b"here"
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # as a terminal does
    else:
        process.send_signal(stop)
    assert process.communicate(timeout=60) == ("", message)
    assert process.returncode == status
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_progress_is_shown_on_a_terminal(folder: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = subprocess.run(
        [*COMMAND, SCRIPT, "Colours"], cwd=folder.parent, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=theirs
    )
    assert done.returncode == 0
    os.write(theirs, b"end")  # so that reading never waits
    assert re.search(rb"\d+/18 ", os.read(ours, 10_000))
    os.close(theirs)
    os.close(ours)
    assert b"/18 " not in done.stdout
