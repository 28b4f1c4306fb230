# SPDX-License-Identifier: Apache-2.0
"""Fetch the ImageNet-1K weights that torchvision publishes and save them in our format.

    python3 scripts/download_weights.py [v1|v2]

v1 (the default) has 71.878 % top-1 and 90.286 % top-5 accuracy, measured with the resizing that test.py uses; v2 has
72.154 and 90.822 with another one. The result is results/pretrained_models/MobileNetV2-ImageNet_1K-<hash>.pth.tar.
<hash> are the first 8 digits of the SHA-256 of the published file, which torchvision puts into that file's name and
which is compared here: the name tells where the weights come from. A file that was fetched by hand, or that torchvision
has in its cache, is taken instead of a download if it has this hash.

The stored class names are those of ImageNet's folders, so that test.py refuses any others; the names that torchvision
publishes are beside them as class_labels.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import hashlib
import http.client
import signal
import socket
import ssl
import sys
import tempfile
import urllib.error
import zipfile
from pathlib import Path
from typing import Any

import torch
from torchvision.models import MobileNet_V2_Weights

from converting.networks import build_network, find_network
from core.atomic_files import write_atomically
from core.weights_files import read_checkpoint
from shared.command_line import REPOSITORY, OneLineParser, print_config_lines
from utils import user_errors

VERSIONS = {"v1": MobileNet_V2_Weights.IMAGENET1K_V1, "v2": MobileNet_V2_Weights.IMAGENET1K_V2}
FOLDER = REPOSITORY / "results" / "pretrained_models"
SYNSETS = REPOSITORY / "data" / "ImageNet_1K_synsets.txt"  # the class folders of ImageNet, in the order of the logits
TIMEOUT_SECONDS = 30  # without a byte; urllib would wait forever
WIDTH = 1.0
NETWORK_ERRORS = (
    *(urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError),
    RuntimeError,  # how torch.hub tells of a wrong hash
)


def main() -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", choices=VERSIONS, default="v1", help="default: v1")
    published = VERSIONS[parser.parse_args().version]
    file_name = published.url.rpartition("/")[2]
    hash_start = torch.hub.HASH_REGEX.findall(file_name)[0]
    target = FOLDER / f"MobileNetV2-ImageNet_1K-{hash_start}.pth.tar"
    if target.is_dir():
        raise ValueError(f"{target}: is a folder; remove it and run this again")
    if target.exists():
        check_target(target, hash_start)
        print(f"{target}: there already, nothing to do.")
    else:
        make_target(target, published, file_name, hash_start)
    print_use(published, target)


def print_use(published: MobileNet_V2_Weights, target: Path) -> None:
    """Print the accuracy that was published, and the lines of config.py."""
    metrics = published.meta["_metrics"]["ImageNet-1K"]
    print(f"Published accuracy: top-1 {metrics['acc@1']} %, top-5 {metrics['acc@5']} %.")
    use = published.transforms()
    resize, own_resize = use.resize_size[0], round(use.crop_size[0] / 0.875)  # as imgproc.eval_transform
    if resize != own_resize:
        print(f"It was measured with short sides of {resize} pixels, test.py has {own_resize}: it will find others.")
    described = describe_use(published)
    path = f"./{target.relative_to(REPOSITORY)}" if target.is_relative_to(REPOSITORY) else str(target)
    scored = {
        "mode": "test",
        "dataset_name": "ImageNet_1K",
        "model_num_classes": len(published.meta["categories"]),
        "test_image_dir": "./data/ImageNet_1K/ILSVRC2012_img_val",
        "model_weights_path": path,
        "class_label_file": "./data/ImageNet_1K_labels_map.txt",
    }
    print_config_lines("to test or classify", described | scored)
    print_config_lines("to fine-tune", described | {"mode": "train", "pretrained_model_weights_path": path})


def describe_use(published: MobileNet_V2_Weights) -> dict[str, Any]:
    """Width, image size, mean and std as published, by their names in config.py."""
    use = published.transforms()
    return {
        "image_size": use.crop_size[0],
        "model_width_mult": WIDTH,
        "model_mean_parameters": list(use.mean),
        "model_std_parameters": list(use.std),
    }


def check_target(target: Path, hash_start: str) -> None:
    """Raise ValueError if the file that is there is damaged or none of this script."""
    try:
        with zipfile.ZipFile(target) as archive:
            is_whole = archive.testzip() is None
    except OSError:
        raise
    except Exception:  # a damaged file can raise almost anything
        is_whole = False
    if not is_whole or not str(read_checkpoint(target).get("source_sha256")).startswith(hash_start):
        raise ValueError(f"{target}: damaged or another file; remove it and run this again")


def make_target(target: Path, published: MobileNet_V2_Weights, file_name: str, hash_start: str) -> None:
    """Write the published weights in our format. Raises: OSError and ValueError in words for users."""
    with tempfile.TemporaryDirectory() as folder:
        source = find_on_disk(published.url, file_name, hash_start)
        if source is None:
            source = Path(folder, file_name)
            download(published.url, source, hash_start)
        found, _ = find_network(read_checkpoint(source), source)
        metrics = published.meta["_metrics"]["ImageNet-1K"]
        record = describe_use(published) | {
            "model_arch_name": "mobilenet_v2",
            "class_names": SYNSETS.read_text(encoding="ascii").split(),
            "class_labels": list(published.meta["categories"]),
            "acc1": metrics["acc@1"],
            "acc5": metrics["acc@5"],
            "source": published.url,
            "source_sha256": sha256(source),
            "state_dict": build_network(found, source).state_dict(),
        }
    write_atomically(target, lambda file: torch.save(record, file))
    print(f"{target}: written.")


def find_on_disk(url: str, file_name: str, hash_start: str) -> Path | None:
    """The published file as fetched by hand or as torchvision keeps it; None if there is none.

    Raises: ValueError if the one fetched by hand has another hash.
    """
    by_hand, cached = FOLDER / file_name, Path(torch.hub.get_dir(), "checkpoints", file_name)
    if by_hand.is_dir():
        raise ValueError(f"{by_hand}: is a folder; put the file itself there, or remove the folder")
    if by_hand.exists():
        found = sha256(by_hand)
        if not found.startswith(hash_start):
            raise ValueError(
                f"{by_hand}: not the published file, its SHA-256 begins with {found[:8]}; fetch {url} again, or remove "
                "the file"
            )
        print(f"{by_hand}: taken, its SHA-256 begins with {hash_start}; it is not needed any more.")
        return by_hand
    if cached.is_file() and sha256(cached).startswith(hash_start):
        print(f"{cached}: taken from the cache, its SHA-256 begins with {hash_start}.")
        return cached
    return None


def download(url: str, path: Path, hash_start: str) -> None:
    """Fetch a file and compare its hash. Raises: ConnectionError, which says where to put the file by hand."""
    print(f"{url}: fetching ...", flush=True)
    timeout_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_start, progress=sys.stderr.isatty())
    except NETWORK_ERRORS as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConnectionError(
            f"{url}: cannot be fetched whole ({reason}); fetch it by hand, put it at {FOLDER / path.name} and run this "
            "again"
        ) from error
    except OSError as error:
        raise OSError(
            f"{path.parent}: {error.strerror or error}; make room, or set TMPDIR to another folder"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout_before)


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up like Ctrl-C
    with user_errors("download_weights.py: interrupted; nothing was left behind"):
        main()
