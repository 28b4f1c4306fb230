# SPDX-License-Identifier: Apache-2.0
"""Files of weights that are damaged, hostile, missing or of another program."""

import gzip
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_networks import small_network, write_old_file

from core import weights_files


def test_file_without_permission_is_named(unprivileged_folder: Path) -> None:
    path = write_old_file(unprivileged_folder)
    path.chmod(0)
    with pytest.raises(PermissionError, match=f"^{path}: Permission denied; name a weights file that you may read$"):
        weights_files.read_checkpoint(path)


# Files of other programs


def script_archive(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # it is deprecated
        torch.jit.script(torch.nn.Linear(1, 1)).save(path)


def exported_program(path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(1, 1),)), path)


def zip_with(name: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"content")

    return write


FOREIGN = {  # what writes them, or how their formats say that they begin
    "safetensors": (
        lambda p: safetensors.torch.save_file(small_network().state_dict(), p),
        "a .safetensors file; COMMAND",
    ),
    "script": (script_archive, "a TorchScript archive; COMMAND"),
    "exported": (
        exported_program,
        "a program of torch.export; save the state_dict() of the network that it was made fr",
    ),
    "keras.h5": (
        lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        "an HDF5 file, as Keras writes; COMMAND",
    ),
    "keras": (zip_with("model.weights.h5"), "a Keras model; COMMAND"),
    "tflite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(99)), "a TFLite model; COMMAND"),
    "onnx": (lambda p: p.write_bytes(b"\x08\x0a\x12\x07pytorch" + bytes(99)), "an ONNX model; COMMAND"),
    "web": (
        lambda p: p.write_bytes(b"\n<!DOCTYPE html>\n<html>"),
        "a web page, not the file; download the file itself",
    ),
    "lfs": (
        lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid "),
        "a pointer of Git LFS, not the",
    ),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"content")), "a compressed file; if the weights are in it, unpack"),
    "zip": (zip_with("best.pth"), "a zip file of other things; if the weights are in it, unpack them"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write, words = FOREIGN[name]
    monkeypatch.chdir(tmp_path)
    write(Path("my net.pt"))
    with pytest.raises(ValueError) as caught:
        weights_files.read_checkpoint("my net.pt")
    command = "`python3 scripts/convert_weights.py 'my net.pt' 'results/pretrained_models/my net.pth.tar'` reads it"
    assert str(caught.value).startswith(f"my net.pt: {words.replace('COMMAND', command)}")


def test_the_file_to_write_is_not_the_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("results/pretrained_models/w.pth.tar")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert f"{path} results/pretrained_models/w-converted.pth.tar`" in weights_files.conversion(path)


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no checkpoint"),
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(path.read_bytes()[:-1000]),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({"state_dict": Payload(path.with_name("executed"))}, path),
    ],
)
def test_damaged_or_hostile_file_is_one_line_and_nothing_executes(tmp_path: Path, write) -> None:
    path = tmp_path / "w.pth.tar"
    torch.save(small_network().state_dict(), path)
    write(path)
    with pytest.raises(ValueError, match=r"w.pth.tar: (damaged or not|holds a list)") as caught:
        weights_files.read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth: no such file; train first"):
        weights_files.read_checkpoint(tmp_path / "nowhere.pth")
