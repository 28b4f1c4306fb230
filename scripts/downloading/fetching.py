# SPDX-License-Identifier: Apache-2.0
"""Getting a published file: as fetched by hand, from the cache of its project, else from the network."""

import hashlib
import http.client
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

import torch
from tqdm import tqdm

from core.plurals import counted
from downloading.published import Published

TIMEOUT_SECONDS = 30  # without a byte; urllib would wait forever
CHUNK_BYTES = 2**16
HEADERS = {"User-Agent": "download_weights.py"}  # some servers refuse urllib's own; torch.hub sends another too
NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def find_on_disk(published: Published, folder: Path) -> Path | None:
    """The published file as fetched by hand into `folder`, or in its project's cache; None if there is none.

    Raises: ValueError if the one fetched by hand has another hash than the published one.
    """
    by_hand, cached = folder / published.file_name, cache_of(published)
    if by_hand.is_dir():
        raise ValueError(f"{by_hand}: is a folder; put the file itself there, or remove the folder")
    if by_hand.exists():
        found = sha256(by_hand)
        if not found.startswith(published.hash_start):
            raise ValueError(
                f"{by_hand}: not the published file, its SHA-256 begins with {found[:8]}; fetch {published.url} again, "
                "or remove the file"
            )
        print(f"{by_hand}: taken, {describe_hash(published, found)}.")
        return by_hand
    if cached.is_file():
        found = sha256(cached)
        if found.startswith(published.hash_start):
            print(f"{cached}: taken from the cache, {describe_hash(published, found)}.")
            return cached
    return None


def cache_of(published: Published) -> Path:
    """Where the program of its project keeps the file."""
    if published.project == "Keras":
        return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / published.file_name
    return Path(torch.hub.get_dir(), "checkpoints", published.file_name)


def describe_hash(published: Published, found: str) -> str:
    """What the hash of a file says; where none is published, all of it for those who want to compare."""
    if published.hash_start:
        return f"its SHA-256 begins with {published.hash_start}"
    return f"its SHA-256 is {found} (none is published)"


def fetch(published: Published, path: Path, by_hand: Path) -> None:
    """Fetch a published file whole and compare its hash.

    Raises: ConnectionError, which says where to put the file by hand; OSError of the disk.
    """
    print(f"{published.url}: fetching ...", flush=True)
    try:
        found = download(published.url, path)
        if not found.startswith(published.hash_start):
            raise ConnectionError(f"invalid hash value: {found[:8]} where {published.hash_start} is published")
    except NETWORK_ERRORS as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConnectionError(
            f"{published.url}: cannot be fetched whole ({reason}); fetch it by hand, put it at {by_hand} and run this "
            "again"
        ) from error
    except OSError as error:
        raise OSError(
            f"{path.parent}: {error.strerror or error}; make room, or set TMPDIR to another folder"
        ) from error
    if not published.hash_start:
        print(f"{published.file_name}: {describe_hash(published, found)}.")


def download(url: str, path: Path) -> str:
    """Copy what lies at an address into a file; its hexadecimal SHA-256. Raises: NETWORK_ERRORS, OSError."""
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers=HEADERS)
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,
        path.open("wb") as file,
        tqdm(total=answer.length, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as progress,
    ):
        while chunk := answer.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            progress.update(len(chunk))
        if answer.length:  # what is left of the length that was announced; read() itself does not look
            raise ConnectionError(f"{counted(answer.length, 'byte of it is', 'bytes of it are')} missing")
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
