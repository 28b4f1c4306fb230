# SPDX-License-Identifier: Apache-2.0
"""Read the files of a folder, a .tar, .tar.gz or .zip from front to back, whoever made the archive.

Nothing is ever extracted: a caller gets the parts of each name and an open file, and decides what to write where.
"""

import contextlib
import gzip
import hashlib
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Protocol

# The largest published file that is read whole has 155 MB; far more is an archive made to take the memory.
MAX_FILE_BYTES = 2**28
MAX_READ_BYTES = 2**20
MAX_HEADER_BYTES = 2**20  # of one member of a tar; tarfile reads extended headers into memory in one go
MAX_ARCHIVE_BYTES = 2**43
GZIP_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)

Parts = tuple[str, ...]


class Readable(Protocol):
    """What all readers here have: at most `size` bytes, none at the end."""

    def read(self, size: int, /) -> bytes: ...


class ForwardReader:
    """A file that is read from front to back, so that it may be a pipe or itself lie in an archive."""

    def __init__(self, file: Readable) -> None:
        self.file, self.position, self.ahead = file, 0, b""

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer only at the end; read() gives them again."""
        while len(self.ahead) < size and (chunk := self.file.read(size - len(self.ahead))):
            self.ahead += chunk
        return self.ahead[:size]

    def read(self, size: int) -> bytes:
        """Fewer bytes than asked for only at the end."""
        chunks, self.ahead = [self.ahead[:size]], self.ahead[size:]
        missing = size - len(chunks[0])
        while missing and (chunk := self.file.read(missing)):
            chunks.append(chunk)
            missing -= len(chunk)
        self.position += size - missing
        return b"".join(chunks)


class DigestReader:
    """Computes the MD5 of what passes through."""

    def __init__(self, file: Readable) -> None:
        self.file, self.digest = file, hashlib.md5(usedforsecurity=False)

    def read(self, size: int) -> bytes:
        chunk = self.file.read(size)
        self.digest.update(chunk)
        return chunk


class TarReader:
    """The file object that tarfile gets: it skips by reading, and refuses huge headers and impossible places."""

    def __init__(self, file: ForwardReader) -> None:
        self.file, self.header_bytes, self.last_block = file, MAX_HEADER_BYTES, b""

    def tell(self) -> int:
        return self.file.position

    def seek(self, position: int) -> None:
        """Skip to a place. Raises: tarfile.ReadError for a position that only a damaged size leads to."""
        if not self.file.position <= position <= MAX_ARCHIVE_BYTES:
            raise tarfile.ReadError(f"a file that ends at byte {position}")
        while (missing := position - self.file.position) and self.file.read(min(missing, MAX_READ_BYTES)):
            pass

    def read(self, size: int) -> bytes:
        """Read a part of a header. Raises: tarfile.ReadError if the headers of one member are far too long."""
        if not 0 <= size <= self.header_bytes:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.header_bytes -= size
        self.last_block = self.file.read(size)
        return self.last_block


class MemberReader:
    """The bytes of one member of a tar."""

    def __init__(self, file: ForwardReader, size: int) -> None:
        self.file, self.missing = file, size

    def read(self, size: int) -> bytes:
        """Raises: tarfile.ReadError if the archive ends before the member."""
        size = min(size, self.missing)
        chunk = self.file.read(size)
        if len(chunk) < size:
            raise tarfile.ReadError("unexpected end of data")
        self.missing -= size
        return chunk


@contextlib.contextmanager
def parsing() -> Iterator[None]:
    """Turn whatever tarfile and zipfile raise over damaged bytes (ValueError, RecursionError, ...) into DAMAGE."""
    try:
        yield
    except (OSError, *DAMAGE):
        raise
    except Exception as error:
        raise tarfile.ReadError(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raise ValueError in words for users if the archive at `path` is not whole."""
    try:
        yield
    except DAMAGE as error:
        raise ValueError(f"{path}: damaged or cut off ({error}); get the file again") from error


def safe_parts(where: object, name: str) -> Parts:
    """Split the name of an archive member into its folders and file name.

    Raises: ValueError if it is empty, absolute or leads upwards, on any system.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if PureWindowsPath(name).anchor or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(f"{where}: {name!r} can lead out of the target; do not use this archive, or rename the file")
    return parts


def tar_files(where: object, file: Readable) -> Iterator[tuple[Parts, MemberReader]]:
    """Read an open .tar or .tar.gz to its last byte, so that the checksum of gzip is compared; `where` names it.

    The reader of a member holds until the next one is asked for.
    Raises: ValueError for a member that is neither a file nor a folder; one of DAMAGE if the archive is not whole.
    """
    data = ForwardReader(file)
    if data.peek(2) == GZIP_MAGIC:
        data = ForwardReader(gzip.GzipFile(fileobj=data))  # type: ignore[call-overload]  # typeshed asks for seek() too
    reader = TarReader(data)
    with parsing():
        archive = tarfile.TarFile(fileobj=reader)  # type: ignore[arg-type]  # typeshed asks for write() too
    while True:
        reader.header_bytes = MAX_HEADER_BYTES
        with parsing():
            member = archive.next()
        if member is None:
            break
        archive.members.clear()  # type: ignore[attr-defined]  # all members so far, which typeshed lacks and nobody reads
        parts = safe_parts(where, member.name)
        if member.isreg() and parts and not member.issparse():
            yield parts, MemberReader(data, member.size)
        elif not member.isdir():
            raise ValueError(f"{where}: {member.name!r} is a link, a device or has no name; do not use this archive")
    check_tar_end(reader)


def check_tar_end(reader: TarReader) -> None:
    """Raise tarfile.ReadError unless zeros follow: tarfile takes a damaged header, and a cut, for the end."""
    if len(reader.last_block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    block = reader.last_block
    while block:
        if block.strip(b"\0"):
            raise tarfile.ReadError("a header is unreadable")
        block = reader.file.read(MAX_READ_BYTES)


def zip_files(path: Path) -> Iterator[tuple[Parts, Readable]]:
    """Read a .zip. Raises: as tar_files."""
    with parsing():
        archive = zipfile.ZipFile(path)
    with archive:
        for member in archive.infolist():
            parts = safe_parts(path, member.filename)
            is_ordinary = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
            if not is_ordinary or (not parts and not member.is_dir()):
                raise ValueError(
                    f"{path}: {member.filename!r} is a link, a device or has no name; do not use this archive"
                )
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{member.filename!r} is encrypted or not compressed by deflate")
            if not member.is_dir():
                with parsing():
                    file = archive.open(member)
                with file:
                    yield parts, file


def folder_files(folder: Path) -> Iterator[tuple[Parts, Readable]]:
    """Read the files below a folder in sorted order; their names begin with the folder's own. Hidden ones are left out.

    Links are followed, for it is the user's own folder, but never back into a folder that is being read.
    Raises: ValueError for a name that no other system could hold.
    """
    root = folder.resolve()
    top = root.name.lstrip(".")  # the user named it, so it is not hidden

    def walk(directory: Path, above: frozenset[tuple[int, int]]) -> Iterator[tuple[Parts, Readable]]:
        status = directory.stat()
        inside = above | {(status.st_dev, status.st_ino)}
        if len(inside) == len(above):
            raise ValueError(f"{directory}: a link back to a folder above it; remove the link")
        with os.scandir(directory) as entries:
            found = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)
        for name, is_directory, is_file in found:
            if name.startswith("."):
                continue
            path = directory / name
            if is_directory:
                yield from walk(path, inside)
            elif is_file:
                with path.open("rb") as file:
                    yield (top, *safe_parts(folder, path.relative_to(root).as_posix())), file

    return walk(root, frozenset())


def open_source(path: Path) -> Iterator[tuple[Parts, Readable]]:
    """Yield (parts of the name, open file) of every file in a folder or an archive; its first bytes tell which kind.

    Raises: ValueError if it is neither; OSError; as tar_files.
    """
    if path.is_dir():
        yield from folder_files(path)
        return
    with path.open("rb") as file:
        data = ForwardReader(file)
        start = data.peek(tarfile.BLOCKSIZE)
        if start[:4] == ZIP_MAGIC:
            yield from zip_files(path)
        elif start[:2] == GZIP_MAGIC or start[257:262] == b"ustar":
            yield from tar_files(path, data)
        else:
            raise ValueError(f"{path}: neither a folder nor a .tar, .tar.gz or .zip archive; name one of these")


def read_whole(where: object, parts: Parts, file: Readable, limit: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of an open file, to its end, so that checksums are compared. Raises: ValueError if above the limit."""
    chunks, size = [], 0
    while chunk := file.read(MAX_READ_BYTES):
        size += len(chunk)
        if size > limit:
            raise ValueError(f"{where}: {'/'.join(parts)!r} has more than {limit:,} bytes; do not use it")
        chunks.append(chunk)
    return b"".join(chunks)
