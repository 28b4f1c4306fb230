# SPDX-License-Identifier: Apache-2.0
"""What one command line of prepare_dataset.py asks for."""

import argparse
from pathlib import Path
from typing import Any

from preparing import datasets, imagenet_sources
from preparing.archives import Parts
from preparing.conversion import Conversion
from preparing.counts import image_sizes
from preparing.datasets import DATASETS
from preparing.sources import SPLITS
from preparing.work_folder import WorkFolder

VALID_SHARE, SEED = 0.2, 0


class Job:
    """What one command line asks for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Raises: ValueError if the options do not go together."""
        self.name, self.short_side = arguments.name, arguments.short_side
        self.dataset = dataset = DATASETS[self.name]
        options = {"--valid-share": arguments.valid_share, "--seed": arguments.seed}
        for option, value in options.items():
            if dataset.is_divided and value is not None:
                raise ValueError(f"{option} {value}: {self.name} is divided by its authors; leave the option out")
        self.valid_share = VALID_SHARE if arguments.valid_share is None else arguments.valid_share
        self.seed = SEED if arguments.seed is None else arguments.seed
        self.test_as_valid = arguments.test_as_valid
        if self.test_as_valid and dataset.folder is not None:
            raise ValueError(f"--test-as-valid: goes with folder, not with {self.name}; leave the option out")
        # A published dataset keeps its bytes, with which others have measured.
        self.conversion = Conversion(self.short_side, dataset.folder is None or self.short_side is not None)
        self.is_source_named = arguments.source is not None
        self.source_path: Path | None = arguments.source or dataset.source
        if dataset.remedy:
            self.require_source()
        folder = dataset.folder or bare_name(self.require_source().resolve())
        self.target = (arguments.target or datasets.DATA / folder).resolve()
        self.work = WorkFolder(self.target)
        self.folders = dict(zip(SPLITS, dataset.split_folders, strict=True))
        if dataset.folder is None and overlap(self.target, self.require_source().resolve()):
            raise ValueError(f"{self.target}: lies in the source or around it; choose another --target")

    def require_source(self) -> Path:
        """The source. Raises: ValueError if there is none, which only a dataset that is downloaded can do without."""
        if self.source_path is None:
            raise ValueError(f"{self.name}: {self.dataset.remedy}")
        return self.source_path

    def splits(self) -> Parts:
        """The splits that the source can give."""
        if self.dataset.split_archives:
            return imagenet_sources.imagenet_splits(self.require_source())
        return SPLITS

    def options(self) -> dict[str, Any]:
        """What decides how the files of a target look."""
        share = {} if self.dataset.is_divided else {"valid_share": self.valid_share, "seed": self.seed}
        source = {"source": str(self.require_source().resolve())} if self.dataset.folder is None else {}
        test = {"test_as_valid": True} if self.test_as_valid else {}
        return {"name": self.name, "short_side": self.short_side, **share, **source, **test}

    def recipe(self, splits: list[str]) -> dict[str, Any]:
        """The options, and which source exactly: an archive that was replaced is another one."""
        paths = [self.source_path] if self.source_path else []
        if self.dataset.split_archives:
            paths = [self.require_source() / self.dataset.split_archives[split] for split in splits]
        upright = {"upright": True} if self.conversion.is_upright else {}  # what older versions did not know
        return {**self.options(), **upright, "splits": splits, "files": [identify(path) for path in paths]}

    def origin(self, split: str) -> list[Any]:
        """What tells a source from another one or from itself before a change: its place, size and time of change.

        Of a folder the number of images and their bytes, unless the target lies inside.
        """
        path = self.source_path
        if path and self.dataset.split_archives:
            path = path / self.dataset.split_archives[split]
        if path is None or not path.is_dir() or overlap(self.target, path.resolve()):
            return identify(path) if path else []
        try:
            sizes = image_sizes(path)
        except OSError:  # a link that leads nowhere, for example, which readers leave out
            return identify(path)
        return [*identify(path), len(sizes), sum(sizes)]


def bare_name(path: Path) -> str:
    """The name of a folder, or that of an archive without its suffix."""
    return path.name if path.is_dir() else path.name.partition(".")[0]


def overlap(first: Path, second: Path) -> bool:
    """Tell whether one folder lies in the other."""
    return first.is_relative_to(second) or second.is_relative_to(first)


def identify(path: Path) -> list[Any]:
    """The place of a source and, for a file, its size and time of change."""
    if not path.is_file():
        return [str(path.resolve())]
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]
