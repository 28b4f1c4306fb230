# SPDX-License-Identifier: Apache-2.0
"""Decoded images in memory that all loader workers share."""

import contextlib
import math
import mmap
import re
from pathlib import Path
from typing import NoReturn

import numpy as np

from core.pixels import Image


class ImageCache:
    """Decoded images in memory that a process shares with the workers it forks: who decodes one first leaves it to all.

    sizes: int64 [N, 2], height and width of each image by its header; one that is decoded to another size is not kept.
    The memory belongs to no file, so the system frees it however the processes end.
    """

    def __init__(self, sizes: np.ndarray) -> None:
        self.sizes = sizes
        self.offsets = np.concatenate([[0], np.cumsum(3 * sizes.prod(axis=1))])
        self.pixels = np.frombuffer(mmap.mmap(-1, max(1, int(self.offsets[-1]))), np.uint8)
        self.is_filled = np.frombuffer(mmap.mmap(-1, len(sizes)), np.bool_)

    def get(self, index: int) -> Image | None:
        """The image, or None if nobody has put it in. It lies in the cache: to read and not to change."""
        return self._place(index) if self.is_filled[index] else None

    def put(self, index: int, image: Image) -> None:
        """Keep a copy."""
        place = self._place(index)
        if place.shape == image.shape:
            place[...] = image
            # After the pixels. An image comes once in an epoch, so no other process looks before the next one, and
            # between the two lie the queues of the loader.
            self.is_filled[index] = True

    def _place(self, index: int) -> Image:
        return self.pixels[self.offsets[index] : self.offsets[index + 1]].reshape(*self.sizes[index], 3)

    def __reduce__(self) -> NoReturn:
        """Raise ValueError: a worker that is not forked would get a copy of its own."""
        raise ValueError(
            "cache_images = True needs workers that can be forked, as on Linux; set num_workers = 0, or cache_images = "
            "False, in config.py"
        )


def free_memory() -> float:
    """The bytes that programs can still take, within the limit of a container; infinite if the system does not say."""
    free: float = math.inf
    with contextlib.suppress(OSError):
        if available := re.search(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text()):
            free = 1024 * int(available[1])
    return min([free, *map(free_in_group, control_groups())])


def control_groups(processes: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The folders of the control groups (version 2) of this process, whose limits all hold: its own and those above."""
    own = None
    with contextlib.suppress(OSError):
        own = re.search(r"^0::/(.*)$", (processes / "self/cgroup").read_text(), re.MULTILINE)
    folder = root / own[1] if own and ".." not in own[1] else root  # of a container's own view: the root
    return [folder, *(each for each in folder.parents if each.is_relative_to(root))]


def free_in_group(group: Path) -> float:
    """The bytes that programs can still take within a control group; infinite where it sets no limit."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        # pages of files count as used, but make room
        pages = re.findall(r"^(?:in)?active_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
        return limit - used + sum(map(int, pages))
    except (OSError, ValueError):  # no such file, or the word max
        return math.inf
