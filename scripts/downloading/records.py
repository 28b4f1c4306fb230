# SPDX-License-Identifier: Apache-2.0
"""Published weights in the format of these scripts: writing such a file, and finding it again."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from converting.networks import build_network, definition_of
from converting.source_networks import read_network
from core.atomic_files import write_atomically
from core.weights_files import read_checkpoint
from downloading.fetching import cache_of, sha256
from downloading.published import VERSIONS, Published
from shared.command_line import REPOSITORY

SYNSETS = REPOSITORY / "data" / "ImageNet_1K_synsets.txt"  # the class folders of ImageNet, in the order of the logits
ENDING = ".pth.tar"


def write_published(published: Published, source: Path, folder: Path) -> Path:
    """Write the weights of a published file in our format; returns where. Raises: OSError and ValueError for users."""
    found = read_network(source).found
    class_names = SYNSETS.read_text(encoding="ascii").split()
    is_it = (found.width, definition_of(found)) == (published.width, published.definition)
    if not is_it or found.num_classes != len(class_names):
        raise ValueError(
            f"{source}: a network of width {found.width} for {found.num_classes} classes, not {published.name}; "
            "remove it and run this again"
        )
    source_hash = sha256(source)
    record = published.use() | {
        "model_arch_name": "mobilenet_v2",
        "class_names": class_names,
        "class_labels": list(VERSIONS["v1"].meta["categories"]),  # all have these classes in this order
        "acc1": published.acc1,
        "acc5": published.acc5,
        "source": published.url,
        "source_sha256": source_hash,
        "state_dict": build_network(found, source).state_dict(),
    }
    target = folder / f"{published.target_start}-{source_hash[:8]}{ENDING}"
    write_atomically(target, lambda file: torch.save(record, file))
    return target


def find_written(published: Published, folder: Path) -> Path | None:
    """The file that write_published() wrote earlier. Raises: ValueError if it is damaged or another, or there are two.

    Where no hash is published, what lies on the disk must be what the file was made of.
    """
    there = sorted(folder.glob(f"{published.target_start}-{published.hash_start or '?' * 8}{ENDING}"))
    if not there:
        return None
    target, *others = there
    if others:
        raise ValueError(f"{target} and {others[0].name}: two files of {published.name}; remove one of them")
    if target.is_dir():
        raise ValueError(f"{target}: is a folder; remove it and run this again")
    recorded = check_written(target, published)
    for source in (folder / published.file_name, cache_of(published)):
        if not published.hash_start and source.is_file() and sha256(source) != recorded:
            raise ValueError(
                f"{source}: its SHA-256 begins with {sha256(source)[:8]}, and {target.name} was made of a file with "
                f"{recorded[:8]}; remove the one that you trust less"
            )
    return target


def check_written(target: Path, published: Published) -> str:
    """The hash of the file that it was made of. Raises: ValueError if it is damaged or was made of another file."""
    try:
        with zipfile.ZipFile(target) as archive:
            is_whole = archive.testzip() is None
    except OSError:
        raise
    except Exception:  # a damaged file can raise almost anything
        is_whole = False
    record: dict[str, Any] = read_checkpoint(target) if is_whole else {}
    recorded = str(record.get("source_sha256"))
    source_name = str(record.get("source")).rpartition("/")[2]
    if source_name != published.file_name or not target.name.endswith(f"-{recorded[:8]}{ENDING}"):
        raise ValueError(f"{target}: damaged or another file; remove it and run this again")
    return recorded
