# SPDX-License-Identifier: Apache-2.0
"""The outputs of the frozen blocks for every image, computed once and kept in a file under samples/."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from core.atomic_files import describe_write_error, sync_folder
from core.frozen_blocks import FrozenForm, output_shape
from core.processes import least_over_processes, local_rank, machine_number, wait_for_all
from core.settings import config_lines, to_plain

# One file: a line of JSON, filled up with spaces, that says what the outputs are of; the outputs, maps as [h, w, C];
# then a byte for each image of each view, 1 if its output is there.
HEADER_BYTES = 4096
VERSION = 1


@dataclass
class Outputs:
    """What a file holds: rows [views, images, ...] as they lie in it, and which are there, bool [views, images]."""

    path: Path
    rows: Tensor
    is_there: np.ndarray

    @property
    def views(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one output as take() gives it: [C, h, w] or [C]."""
        *sides, channels = self.rows.shape[2:]
        return channels, *sides

    def take(self, view: int, indices: list[int]) -> tuple[Tensor, np.ndarray]:
        """The outputs of some images, float32 [N, C, h, w] or [N, C], and which of these images have one."""
        asked = np.array(indices)
        found = asked[self.is_there[view, asked]]
        rows = self.rows[view].index_select(0, torch.from_numpy(found)).float()
        if not rows.isfinite().all():
            raise ValueError(f"{self.path}: damaged; remove it, and it is computed anew")
        return (rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows), found


@dataclass
class OutputFile:
    """A file of outputs. `of`: what they were computed from, by names. shape: of one row, [h, w, C] or [C]."""

    path: Path
    of: dict[str, Any]
    views: int
    images: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    asked_by: str = ""  # the line of config.py that wants it

    @property
    def partial(self) -> Path:
        """Where it is written before it gets its name."""
        return self.path.with_name(f".{self.path.name}.partial")

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return HEADER_BYTES + self.views * self.images * (1 + self.row_bytes)

    def header(self) -> dict[str, Any]:
        described = {"version": VERSION, "shape": list(self.shape), "dtype": str(self.dtype)}
        return {**described, "views": self.views, "count": self.images, "of": self.of}

    def differences(self) -> list[str]:
        """What the file that is there was computed from and would not be now; empty: it can be used."""
        if not self.path.exists():
            return [NOT_THERE]
        with open(self.path, "rb") as file:
            head = file.read(HEADER_BYTES)
        try:
            found = json.loads(head)
            names = [name for name, value in self.of.items() if found["of"].get(name) != value]
            names += [name for name, value in self.header().items() if name != "of" and found.get(name) != value]
        except (ValueError, LookupError, TypeError, AttributeError):
            return ["content"]
        return names or ([] if self.path.stat().st_size == self.size else ["size"])

    def read(self) -> Outputs:
        """Map the file: the outputs are read as they are asked for."""
        content = np.memmap(self.path, np.uint8, mode="c", shape=(self.size,))
        rows, flags = np.split(content[HEADER_BYTES:], [self.views * self.images * self.row_bytes])
        place = self.views, self.images
        return Outputs(
            self.path,
            torch.from_numpy(rows).view(self.dtype).view(*place, *self.shape),
            flags.astype(bool).reshape(place),
        )

    def create(self) -> None:
        """Make the partial file, of its whole size."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.writing("wb") as file:
            file.write(json.dumps(self.header()).encode().ljust(HEADER_BYTES))
            file.truncate(self.size)

    @contextlib.contextmanager
    def writing(self, mode: str) -> Iterator[IO[bytes]]:
        """The partial file, open. Raises: OSError that says what to do."""
        try:
            with open(self.partial, mode) as file:
                yield file
        except OSError as error:
            raise describe_write_error(self.path, error) from error

    def fill(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Write outputs into the partial file: float [N, ...] and the number of each, view * images + image, or -1."""
        with self.writing("r+b") as file:
            for outputs, numbers in batches:
                outputs, numbers = outputs[numbers >= 0], numbers[numbers >= 0]
                if not len(numbers):
                    continue
                rows = outputs.permute(0, 2, 3, 1) if outputs.ndim == 4 else outputs
                rows = rows.to("cpu", self.dtype).contiguous()
                if not rows.isfinite().all():
                    raise FloatingPointError(
                        f"the frozen blocks give values that are not finite in {self.dtype}: set precision in "
                        'config.py to "float32", or take other pretrained weights'
                    )
                self._write_rows(file.fileno(), rows.flatten(1).view(torch.uint8).numpy(), numbers.numpy())
            os.fsync(file.fileno())

    def _write_rows(self, descriptor: int, rows: np.ndarray, numbers: np.ndarray) -> None:
        """The rows of neighbours in one write. If the disk is full it raises OSError; a map would end the process."""
        flags = self.size - self.views * self.images
        for places in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers) != 1) + 1):
            first = int(numbers[places[0]])
            write_at(descriptor, rows[places].tobytes(), HEADER_BYTES + first * self.row_bytes)
            write_at(descriptor, b"\1" * len(places), flags + first)

    def publish(self) -> None:
        """Give the partial file its name, when all processes have filled it."""
        try:
            os.replace(self.partial, self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise describe_write_error(self.path, error) from error


def keep_outputs(file: OutputFile, compute: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Outputs | None:
    """What a file holds, which is made first unless it is there; None if there is no room for it.

    compute: the share of this process among those of its machine, as OutputFile.fill() takes it.
    All processes call it. Lines tell what was done. Raises: ValueError if there is no room for what config.py asks for.
    """
    is_first = local_rank()[0] == 0
    others = file.differences()
    if not least_over_processes(not others):
        if others and others != [NOT_THERE]:
            print(f"`{file.path}` holds outputs for other {', '.join(others)}: computed anew.")
        if not least_over_processes(file.size + ROOM_FOR_CHECKPOINTS <= free_room(file.path)):
            reason = f"{file.path}: no room for {file.size / 2**20:.0f} MiB of outputs of the frozen blocks"
            if file.asked_by:
                raise ValueError(f"{file.asked_by}: {reason}; make room, or lower it")
            print(f"{reason}; they are computed for every batch instead.")
            return None
        began = time.perf_counter()
        try:
            if is_first:
                file.path.unlink(missing_ok=True)
                file.create()
            wait_for_all()
            file.fill(compute())
            wait_for_all()
            if is_first:
                file.publish()
            wait_for_all()
        finally:
            if is_first:
                file.partial.unlink(missing_ok=True)
        seconds = time.perf_counter() - began
        print(
            f"Outputs of the frozen blocks for {file.views} x {file.images} images: {seconds:.1f} s, "
            f"{file.size / 2**20:.1f} MiB in `{file.path}`.",
            flush=True,
        )
    return file.read()


NOT_THERE = "file"
ROOM_FOR_CHECKPOINTS = 2**28  # bytes: of the widest network with its momentum, some of them


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of some bytes: the system may take a part of them at a time."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


class Images(Protocol):
    """What is asked of an ImageDataset."""

    seed: int | None

    def __len__(self) -> int: ...

    def path(self, index: int) -> str: ...


def count_views(config: ModuleType) -> int:
    """How many outputs of each training image are kept: one if it is always the same, none if it is always new.

    Mixup mixes images, and with cached_views what is kept of them (arXiv:1806.05236).
    """
    if config.cutmix_alpha or (config.mixup_alpha and not config.cached_views):
        return 0
    if is_augmented(config):
        return min(int(config.cached_views), int(config.epochs))
    return 1


def is_augmented(config: ModuleType) -> bool:
    """Whether an image is another one in each epoch."""
    return any(getattr(config, name) for name in AUGMENTATION)


AUGMENTATION = ("random_crop_scale", "random_flip_probability", "trivial_augment", "random_erasing_probability")
NETWORK = ("model_width_mult", "model_padding", "model_batch_norm_eps", "frozen_blocks")
PIXELS = ("image_size", "apply_orientation", "model_mean_parameters", "model_std_parameters")


def output_file(config: ModuleType, form: FrozenForm, images: Images, views: int) -> OutputFile:
    """Where the outputs of a split are kept, on each machine for itself."""
    split = "train" if images.seed is not None else "valid"
    machine = f"-{machine_number()}" if machine_number() else ""
    line = config_lines(config).get("cached_views", "?")
    is_asked = images.seed is not None and config.cached_views and is_augmented(config)
    channels, *sides = output_shape(form.part, config.image_size)
    return OutputFile(
        path=Path("samples", config.exp_name, f"frozen_{split}{machine}.outputs"),
        of=describe_outputs(config, form, images),
        views=views,
        images=len(images),
        shape=(*sides, channels),
        dtype=form.dtype,
        asked_by=f"config.py line {line}: cached_views = {config.cached_views}" if is_asked else "",
    )


def describe_outputs(config: ModuleType, form: FrozenForm, images: Images) -> dict[str, Any]:
    """What the outputs of some images are a function of: another value of any of it makes other outputs."""
    names = (*NETWORK, *PIXELS, *((*AUGMENTATION, "bad_images") if images.seed is not None else ()))
    settings = {name: getattr(config, name) for name in names}
    is_tf32 = config.precision == "tf32"
    return {
        "weights": hash_weights(form.part),
        "images": hash_files(images.path(index) for index in range(len(images))),
        "settings": to_plain(
            settings | {"seed": images.seed, "device": torch.device(config.device).type, "tf32": is_tf32}
        ),
        "versions": {"torch": torch.__version__, "opencv": cv2.__version__},
    }


def hash_weights(network: nn.Module) -> str:
    """SHA-256 of the weights and statistics that a network computes with."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def hash_files(paths: Iterable[str]) -> str:
    """SHA-256 of names, sizes and times of files, in their order: as make does, it believes the times."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path))
        with contextlib.suppress(OSError):  # reported when it is read, or left out
            found = os.stat(path)
            digest.update(f"/{found.st_size}/{found.st_mtime_ns}/".encode())
    return digest.hexdigest()


def free_room(path: Path) -> int:
    """The bytes that there are for a file which takes the place of the one that is there."""
    folder = next(each for each in path.resolve().parents if each.exists())
    return shutil.disk_usage(folder).free + (path.stat().st_size if path.exists() else 0)
