# SPDX-License-Identifier: Apache-2.0
"""Read a file of weights that can be hostile, damaged or of another program."""

import argparse
import io
import os
import re
import shlex
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from core.plurals import counted


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of torch.save() into the CPU's memory, executing nothing in it.

    Its containers are plain ones and its tensors dense, with the memory that they claim. Only files in torch's old
    format, which is no zip file, come without checksums.
    Raises: FileNotFoundError, OSError; ValueError naming the file if it is damaged, of another kind, or no checkpoint.
    """
    with open_weights_file(path) as file:
        if foreign := foreign_kind(file):
            kind, remedy = foreign
            raise ValueError(f"{path}: {kind}; {remedy or conversion(path)}")
        try:
            allowed = torch.serialization.safe_globals([argparse.Namespace])  # the options in torchvision's own files
            with warnings.catch_warnings(action="ignore"), allowed:  # the one line to show is the error
                checkpoint = plain_copy(torch.load(verified_copy(file), map_location="cpu", weights_only=True))
        except Exception as error:  # a damaged file can raise almost anything
            reason = describe_damage(error)
            raise ValueError(f"{path}: damaged or not a PyTorch checkpoint ({reason}); get or save it again") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, not a dictionary of weights; name another file")
    return checkpoint


def open_weights_file(path: str | Path) -> BinaryIO:
    """Open a file for reading. Raises: OSError, ValueError, in words for users; they say nothing about the content."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            return open(path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file; train first, or see README.md for other weights") from error
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror}; name a weights file that you may read") from error
    raise ValueError(f"{path}: a folder or device, not a weights file; name a file of torch.save()")


SAFETENSORS, TORCHSCRIPT = "a .safetensors file", "a TorchScript archive"
HDF5, KERAS, TFLITE, ONNX = "an HDF5 file, as Keras writes", "a Keras model", "a TFLite model", "an ONNX model"
# How files begin, or what is in zip files, that torch.save() did not write: what they are, and what to do with them,
# "" where scripts/convert_weights.py reads them.
FOREIGN_STARTS = {
    rb".{4}\0{4}\{": (SAFETENSORS, ""),  # the length of its header, which the format limits to 100 MB, and the header
    rb"\x89HDF\r\n\x1a\n": (HDF5, ""),
    rb".{4}TFL3": (TFLITE, ""),
    rb"\x08[\x01-\x1f][\x12:]": (ONNX, ""),  # its version, then the program that wrote it or the network
    rb"\s*<(?i:!doctype html|html)": ("a web page, not the file", "download the file itself"),
    rb"version https://git-lfs": ("a pointer of Git LFS, not the file", "`git lfs pull` fetches it"),
    rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ|7z\xbc\xaf|Rar!": ("a compressed file", "if the weights are in it, unpack them"),
}
FOREIGN_RECORDS = {
    r"[^/]+/constants\.pkl": (TORCHSCRIPT, ""),
    r"model\.weights\.h5": (KERAS, ""),
    r"[^/]+/(archive_format|models/.+\.json)|serialized_exported_program\.json": (
        "a program of torch.export",
        "save the state_dict() of the network that it was made from",
    ),
}


def foreign_kind(file: BinaryIO) -> tuple[str, str] | None:
    """What a file is that torch.save() did not write, and what to do with it; None if nothing tells.

    Known by its first bytes, or by its records. What to do is "" where scripts/convert_weights.py reads it.
    """
    start = file.read(512)
    file.seek(0)
    for pattern, foreign in FOREIGN_STARTS.items():
        if re.match(pattern, start, re.DOTALL):
            return foreign
    if not start.startswith(b"PK\x03\x04"):
        return None
    try:
        names = zipfile.ZipFile(file).namelist()
    except Exception:  # a damaged file can raise almost anything; reading it tells what is wrong
        return None
    finally:
        file.seek(0)
    for record, foreign in FOREIGN_RECORDS.items():
        if any(re.fullmatch(record, name) for name in names):
            return foreign
    is_torch = any(name.endswith("data.pkl") for name in names)
    return None if is_torch else ("a zip file of other things", "if the weights are in it, unpack them")


def conversion(path: str | Path) -> str:
    """The command that makes a file for these scripts of one of another project."""
    target = beside_pretrained(path, "")
    if target.exists():
        target = beside_pretrained(path, "-converted")
    return f"`python3 scripts/convert_weights.py {shlex.quote(str(path))} {shlex.quote(str(target))}` reads it"


def beside_pretrained(path: str | Path, ending: str) -> Path:
    """Where to put what is made of a file of weights."""
    name = re.sub(r"(\.(pth|pt|tar|ckpt|bin|safetensors|weights|h5|hdf5|keras|tflite|onnx))+$", "", Path(path).name)
    return Path("results/pretrained_models", f"{name}{ending}.pth.tar")


def describe_damage(error: Exception) -> str:
    """Why a file could not be read, in one printable line."""
    reason = "its content is not what torch.save() writes"
    if forbidden := re.search(r"GLOBAL (\S+)", str(error)):  # torch's own words recommend to execute it
        reason = (
            f"it asks to run {forbidden[1]}: Python objects, which could run code; save the state_dict() of the network"
        )
    elif isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        reason = "it asks for more memory than there is"
    elif isinstance(error, (ValueError, RuntimeError, OSError, zipfile.BadZipFile)):
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"[^ -~]", "?", reason)[:160]


def verified_copy(file: BinaryIO, wanted: str = ".+") -> BinaryIO:
    """A file in memory with the records of a zip file whose checksums are right; any other file as it is.

    torch.load compares no checksums, and one flipped bit in the table of contents makes it return a tensor without
    reading it; from this copy it can only get what was verified. `wanted`: which names of records are copied.
    Raises: ValueError and others for a damaged file.
    """
    is_zip = file.read(4) == b"PK\x03\x04"  # what torch.load goes by
    file.seek(0)
    if not is_zip:
        return file
    if not zipfile.is_zipfile(file):
        raise ValueError("its end is missing")
    copy = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(copy, "w") as target:
        records = [record for record in source.infolist() if re.fullmatch(wanted, record.filename, re.DOTALL)]
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise ValueError("its records are compressed")
        if any(record.file_size != record.compress_size for record in records):
            raise ValueError("its records have two lengths")
        if sum(record.file_size for record in records) > os.fstat(file.fileno()).st_size:
            raise ValueError("its records claim more bytes than it has")
        if len({record.filename for record in records}) < len(records):
            raise ValueError("it has two records of one name")
        for record in records:
            target.writestr(zipfile.ZipInfo(record.filename), source.read(record))  # read() compares the checksum
    copy.seek(0)
    return copy


def plain_copy(value: Any, name: Any = "", depth: int = 0, copies: dict[int, Any] | None = None) -> Any:
    """What torch.load returned, in plain dictionaries, lists and tuples; tensors share their memory with the original.

    A hostile file can give its dictionaries and tensors attributes that hide their methods; copies have none of them.
    `name`, `depth`, `copies`: of the recursion. Raises: ValueError for tensors that are not dense or claim more values
    than they have, and for containers nested too deep, as one that holds itself.
    """
    copies = {} if copies is None else copies
    if id(value) in copies:
        return copies[id(value)]
    if depth > MAX_NESTING:
        raise ValueError("it is nested too deep, or holds itself")
    copy: Any = value
    if isinstance(value, Tensor):
        copy = plain_tensor(value, name)
    elif isinstance(value, dict):
        copy = {key: plain_copy(item, key, depth + 1, copies) for key, item in dict.items(value)}
    elif isinstance(value, argparse.Namespace):
        copy = plain_copy(vars(value), name, depth + 1, copies)
    elif isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        copy = kind(plain_copy(item, name, depth + 1, copies) for item in value)
    copies[id(value)] = copy
    return copy


MAX_NESTING = 50


def plain_tensor(tensor: Tensor, name: Any) -> Tensor:
    """A tensor without attributes, on the same memory. Raises: ValueError if it is not dense, or short of values."""
    bare = Tensor.detach(tensor)
    shown = repr(name)[:80] if isinstance(name, str) else "a tensor"
    is_dense = bare.layout is torch.strided and bare.device.type == "cpu"
    if not is_dense or bare.is_quantized or bare.is_nested or bare.is_complex():
        raise ValueError(f"{shown} is sparse, quantized or complex")
    if bare.numel() * bare.element_size() > bare.untyped_storage().nbytes():
        raise ValueError(f"{shown} claims {counted(bare.numel(), 'value')} and has fewer")
    return bare
