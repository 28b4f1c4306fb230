# SPDX-License-Identifier: Apache-2.0
"""The public archives of the datasets that may be downloaded without an account, with their checksums."""

import http.client
import socket
from pathlib import Path
from typing import NamedTuple

TIMEOUT_SECONDS = 30  # without a byte; urllib would wait forever


class Download(NamedTuple):
    """One published file."""

    urls: tuple[str, ...]  # the same file; the first that works is taken
    md5: str

    @property
    def file_name(self) -> str:
        return self.urls[0].rpartition("/")[2]


FIXED = {
    "tiny_imagenet_200": Download(
        ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",), "90528d7ca1a48142e341f4ef8d21d0de"
    ),
    "caltech101": Download(
        ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",), "3138e1922a9193bfa496528edbbc45d0"
    ),
    "caltech256": Download(
        ("https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",),
        "67b4f42ca05d46448c6bb8ecd2220f6d",
    ),
}
VOC_ARCHIVES = {"voc2007": ("2007", "2007-test"), "voc2012": ("2012",)}  # by the keys of torchvision


def published_files(name: str) -> list[Download]:
    """What to fetch for a dataset."""
    if name in FIXED:
        return [FIXED[name]]
    from torchvision import datasets  # takes seconds, which a run without a download need not wait for

    if name == "mnist":
        return [
            Download(tuple(mirror + file for mirror in datasets.MNIST.mirrors), md5)
            for file, md5 in datasets.MNIST.resources
        ]
    if name in VOC_ARCHIVES:
        releases = [datasets.voc.DATASET_YEAR_DICT[year] for year in VOC_ARCHIVES[name]]
        return [Download((release["url"],), release["md5"]) for release in releases]
    published = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    return [Download((published.url,), published.tgz_md5)]


def download(name: str, folder: Path) -> Path:
    """Fetch the files of a dataset that are not in `folder` yet; gives the file, or the folder of several.

    Raises: ConnectionError in words for users.
    """
    files = published_files(name)
    for file in files:
        try:
            fetch(file, folder)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename and Path(str(error.filename)).is_relative_to(folder):
                raise  # the disk refused, not the network
            names = " and ".join(each.urls[0] for each in files)
            by_hand = files[0].file_name if len(files) == 1 else "FOLDER"
            what = "this file" if len(files) == 1 else f"these {len(files)} files into one folder"
            raise ConnectionError(
                f"cannot download {file.urls[0]} ({error}); fetch {what} by hand"
                f"{'' if len(files) == 1 else f' ({names})'} and name it: "
                f"python3 scripts/prepare_dataset.py {name} --source {by_hand}"
            ) from error
    return folder / files[0].file_name if len(files) == 1 else folder


def fetch(file: Download, folder: Path) -> None:
    """Fetch one file, unless it is there with the right checksum. Raises: the error of the last place tried."""
    from torchvision.datasets.utils import download_url

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        for url in file.urls:
            try:
                download_url(url, str(folder), file.file_name, file.md5)
                return
            except (OSError, RuntimeError, http.client.HTTPException):
                if url == file.urls[-1]:
                    raise
    finally:
        socket.setdefaulttimeout(before)
