# SPDX-License-Identifier: Apache-2.0
"""Archives that are damaged or hostile, given to prepare_dataset.py: one line, and nothing is written."""

import gzip
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from preparing_runs import add_to_tar, assert_refused, call, contents, make_source, small_cifar10, times


@pytest.fixture
def images() -> dict[str, bytes]:
    return small_cifar10()


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
