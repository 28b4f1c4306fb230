# SPDX-License-Identifier: Apache-2.0
"""Runs of prepare_dataset.py, small sources for it, and what must come of them."""

import contextlib
import errno
import hashlib
import io
import json
import os
import signal
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
import torch
from command_runs import ENVIRONMENT, run_command
from conftest import ROOT
from PIL import Image

import prepare_dataset

SCRIPT = ROOT / "scripts" / "prepare_dataset.py"
MADE = {"prepare_dataset.json", "train.index.npz", "valid.index.npz"}  # beside the splits in a target
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def run(
    *arguments: object, script: Path = SCRIPT, folder: Path = ROOT, environment: Mapping = ENVIRONMENT
) -> CompletedProcess:
    """As a user does: in a process of its own."""
    return run_command(script, *arguments, folder=folder, environment=environment)


def call(*arguments: object) -> CompletedProcess:
    """The same in this process, which has imported torch already, and keeps its handlers and threads."""
    output, error = io.StringIO(), io.StringIO()
    with process_settings(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        try:
            status = prepare_dataset.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = exit_.code
    return CompletedProcess(arguments, status, output.getvalue(), error.getvalue())


@contextlib.contextmanager
def process_settings() -> Iterator[None]:
    """Put back what the script sets for its own process."""
    handler, log_level = signal.getsignal(signal.SIGTERM), cv2.utils.logging.getLogLevel()
    threads = cv2.getNumThreads(), torch.get_num_threads()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if cv2.utils.logging.getLogLevel() != log_level:
            cv2.utils.logging.setLogLevel(log_level)
        if (cv2.getNumThreads(), torch.get_num_threads()) != threads:
            cv2.setNumThreads(threads[0])
            torch.set_num_threads(threads[1])


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


def assert_refused(result: CompletedProcess, *words: object) -> None:
    """Exit status 2 and one line that holds every one of the words."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n"), result.stderr
    assert result.stdout == ""
    for word in words:
        assert str(word) in result.stderr


def small_cifar10() -> dict[str, bytes]:
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


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            add_to_tar(archive, name, data)
    return buffer.getvalue()


def caltech_files(top: str, classes: tuple[str, ...], number: int = 10) -> dict[str, bytes]:
    random = np.random.default_rng(5)
    return {
        f"{top}/{name}/image_{place:04d}.jpg": random.bytes(250) for name in classes for place in range(1, number + 1)
    }


def flower_photos() -> dict[str, bytes]:
    """Two classes of photos, one in folders inside it; their bytes are copied and never decoded."""
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


def smooth_photos() -> dict[str, bytes]:
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
