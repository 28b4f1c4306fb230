# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/archives.py: archives that are damaged, or made to take the memory or the disk."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preparing import archives


def read(path: Path) -> dict[str, bytes]:
    """Everything in a source."""
    return {"/".join(parts): archives.read_whole(path, parts, file) for parts, file in archives.open_source(path)}


def tar_of(files: dict[str, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Sizes around those of a block, names longer than a header holds and beyond ASCII."""
    random = np.random.default_rng(0)
    names = ["a", "folder/b", "x" * 90 + "/" + "y" * 150, "ä/ö.jpg", "e", "f"]
    return {name: random.bytes(size) for name, size in zip(names, (0, 1, 511, 512, 513, 100_000), strict=True)}


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: gzip.compress(data[:999]) + gzip.compress(data[999:])]
)
def test_tar_is_read_whole(
    pack: Callable[[bytes], bytes], tar_format: int, tmp_path: Path, files: dict[str, bytes]
) -> None:
    (tmp_path / "a.tar").write_bytes(pack(tar_of(files, tar_format)))
    assert read(tmp_path / "a.tar") == files


def test_members_that_are_not_read_are_passed_over(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "a.tar").write_bytes(gzip.compress(tar_of(files)))
    found = []
    for parts, file in archives.open_source(tmp_path / "a.tar"):
        found.append("/".join(parts))
        file.read(len(found))  # a part of it, or all
    assert found == list(files)


def test_folder_gives_its_files_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2", "b/10", "a", ".hidden", "b/.hidden/x", "c/d/e/f/g"):
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_bytes(name.encode())
    (tmp_path / "outside").write_bytes(b"linked")
    (tmp_path / "top" / "link").symlink_to(tmp_path / "outside")
    assert read(tmp_path / "top") == {
        **{f"top/{name}": name.encode() for name in ("a", "b/10", "b/2", "c/d/e/f/g")},
        "top/link": b"linked",
    }
    assert [parts[-1] for parts, _ in archives.open_source(tmp_path / "top")] == ["a", "10", "2", "g", "link"]


def test_folder_that_links_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="again: a link back to a folder above it"):
        read(tmp_path)


def every_cut(data: bytes) -> list[bytes]:
    """The beginnings of an archive that lack something else each."""
    length = len(data.rstrip(b"\0"))  # without the padding of a tar, whose loss loses nothing
    return [data[: length * part // 23] for part in range(1, 24)]


@pytest.mark.parametrize("pack", ["tar", "tar.gz", "zip"])
def test_archive_that_was_cut_off_is_damage_wherever_it_was_cut(pack: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    files = {f"folder/{number}": random.bytes(997 * number) for number in range(1, 8)}
    whole = tar_of(files)
    if pack == "tar.gz":
        whole = gzip.compress(whole)
    elif pack == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        whole = buffer.getvalue()
    path = tmp_path / "archive"
    for data in every_cut(whole):
        path.write_bytes(data)
        with pytest.raises(archives.DAMAGE):
            read(path)


@pytest.mark.parametrize("pack", ["tar", "tar.gz", "zip"])
def test_bytes_that_changed_are_damage_or_harmless_but_never_a_crash(pack: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    files = {f"folder/{number}": random.bytes(300) for number in range(4)}
    buffer = io.BytesIO()
    if pack == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    whole = {"tar": tar_of(files), "tar.gz": gzip.compress(tar_of(files)), "zip": buffer.getvalue()}[pack]
    path = tmp_path / "archive"
    harmed = 0
    for _ in range(300):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        path.write_bytes(data)
        try:
            read(path)
        except (ValueError, OSError, *archives.DAMAGE):
            harmed += 1
    assert harmed > 100


def header(name: str, kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def many_long_names() -> bytes:
    """Each announces the next: tarfile calls itself for every one."""
    return (header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 5) + b"name\0".ljust(512, b"\0")) * 900


def sparse_without_end() -> bytes:
    """A file of holes whose list goes on and on: 21 in each block, and the mark that another block follows."""
    first = bytearray(header("sparse", tarfile.GNUTYPE_SPARSE, 0))
    first[482] = 1
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    block = (b"00000000001\0" * 42).ljust(504, b"\0") + b"\1" + bytes(7)
    return bytes(first) + block * 20_000


BOMBS = {
    "extended header of 8 GiB": lambda: header("x", tarfile.XHDTYPE, 2**33) + bytes(2**20),
    "name of 1 GiB": lambda: header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 2**30) + bytes(2**20),
    "many long names": many_long_names,
    "sparse without end": sparse_without_end,
    "negative size": lambda: header("a", tarfile.REGTYPE, -512) + bytes(2**12),
    "file of 8 TiB": lambda: header("a", tarfile.REGTYPE, 2**43) + bytes(2**20),
}


@pytest.mark.parametrize("name", BOMBS)
def test_header_that_would_take_the_memory_is_damage(name: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(BOMBS[name]()))
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, *archives.DAMAGE)):
            read(tmp_path / "bomb.tar.gz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**27


@pytest.mark.parametrize("pack", ["tar.gz", "zip"])
def test_file_above_the_limit_is_refused_before_it_takes_the_memory(
    pack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb"
    data = bytes(2**26)
    if pack == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", data)
    else:
        path.write_bytes(gzip.compress(tar_of({"zeros": data})))
    assert path.stat().st_size < 2**17
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="'zeros' has more than 8,388,608 bytes; do not use it"):
            for parts, file in archives.open_source(path):
                archives.read_whole(path, parts, file, 2**23)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**25


@pytest.mark.parametrize("name", ["a\0.png", "..", "a/../../b", "/a", "C:/a", "c:a", "a\\b", "//server/share/a"])
def test_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="do not use this archive"):
        archives.safe_parts("archive", name)


def test_encrypted_zip_is_damage(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"text")
    data = bytearray(buffer.getvalue())
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.index(magic) + offset
        data[place : place + 2] = struct.pack("<H", 1)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(zipfile.BadZipFile, match="'a' is encrypted"):
        read(tmp_path / "a.zip")


def test_tar_in_a_tar_is_read_as_a_stream(tmp_path: Path, files: dict[str, bytes]) -> None:
    inner = {f"{name}.tar": tar_of({f"{name}/{file}": data for file, data in files.items()}) for name in ("one", "two")}
    inner["two.tar"] = gzip.compress(inner["two.tar"])
    (tmp_path / "outer.tar").write_bytes(gzip.compress(tar_of(inner)))
    found = {}
    for _, member in archives.open_source(tmp_path / "outer.tar"):
        for parts, file in archives.tar_files("inner", member):
            found["/".join(parts)] = archives.read_whole("inner", parts, file)
    assert found == {f"{name}/{file}": data for name in ("one", "two") for file, data in files.items()}
