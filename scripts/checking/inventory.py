# SPDX-License-Identifier: Apache-2.0
"""The list of all images of a dataset, and of what is not in it."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from checking.report import Report
from core.folders import list_classes, list_images
from core.image_names import IMAGE_SUFFIXES, is_left_out, kind_of_name
from preparing import folder_layouts

SPLIT_FOLDERS = {"train": ("train", "ILSVRC2012_img_train"), "valid": ("valid", "ILSVRC2012_img_val")}
NO_CLASSES = "folders that may be no classes; prepare_dataset.py folder --source FOLDER arranges what it understands"


def find_splits(folder: Path, report: Report) -> dict[str, str]:
    """Split -> its folder; a folder without train and valid is one split, called "".

    Raises: FileNotFoundError if it has no class folders either.
    """
    splits = {}
    for split, names in SPLIT_FOLDERS.items():
        found = [name for name in names if (folder / name).is_dir()]
        if found:
            splits[split] = str(folder / found[0])
    for split in SPLIT_FOLDERS if splits else ():
        if split not in splits:
            report.problem("missing folders", f"{folder / split}: training needs train and valid")
    if not splits:
        list_classes(str(folder))  # raises: a folder of neither kind is a wrong command, not a bad dataset
    return splits or {"": str(folder)}


class Inventory:
    """Names, classes and findings of all images, in numpy arrays: 60 bytes and the name for each of a million files."""

    def __init__(self, splits: dict[str, str], report: Report) -> None:
        self.roots, self.splits = list(splits.values()), list(splits)
        self.folders: list[tuple[int, str]] = []  # (split, class name)
        self.ignored: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()  # by suffix
        names, counts, lengths = bytearray(), [], []
        for split, root in enumerate(self.roots):
            tree = folder_layouts.Folder()
            for class_name in self._list_classes(split, report):
                images = self._list_images(split, class_name, report)
                self.folders.append((split, class_name))
                counts.append(len(images))
                lengths.append(np.fromiter(map(len, images), dtype=np.int64, count=len(images)))
                names += b"".join(images)
                for inner, count in Counter(os.path.dirname(name) for name in images).items():
                    tree.add((class_name, *Path(os.fsdecode(inner)).parts), count)
            self._count_ignored(root)
            report_layer(root, tree, bool(self.splits[split]), report)
        self.names = bytes(names)
        self.ends = np.cumsum(np.concatenate(lengths)) if lengths else np.zeros(0, np.int64)
        self.folder_of = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.sizes = np.zeros((len(self), 2), dtype=np.int32)  # width, height; 0 if it does not load
        self.digests = np.zeros((len(self), 2), dtype=np.uint64)
        self.modes: Counter[str] = Counter()
        self.num_turned = 0

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, index: int | np.intp) -> str:
        """The file of one image."""
        split, class_name = self.folders[self.folder_of[index]]
        start = self.ends[index - 1] if index else 0
        return os.path.join(self.roots[split], class_name, os.fsdecode(self.names[start : self.ends[index]]))

    def is_readable(self) -> np.ndarray:
        """bool [images]."""
        return self.sizes[:, 0] > 0

    def _list_classes(self, split: int, report: Report) -> list[str]:
        """The classes of a split; names those that another split has and this one has not."""
        root = self.roots[split]
        try:
            classes = list_classes(root)
        except OSError as error:
            report.problem("missing folders", str(error))
            return []
        earlier = {name for of_split, name in self.folders if of_split != split}
        for name in sorted(earlier.symmetric_difference(classes)) if split else ():
            there, missing = (self.roots[0], root) if name in earlier else (root, self.roots[0])
            report.problem("classes on one side only", f"{missing}/{name}: not there, but {there}/{name} is")
        return classes

    def _list_images(self, split: int, class_name: str, report: Report) -> list[bytes]:
        folder = os.path.join(self.roots[split], class_name)
        try:
            images = list_images(folder)
        except OSError as error:
            report.problem("folders that cannot be read", f"{folder}: {error.strerror or error}")
            return []
        except ValueError as error:
            report.problem("links that lead back", str(error))
            return []
        if not images:
            report.problem("class folders without images", f"{folder}: add images or remove the folder")
        return images

    def _count_ignored(self, root: str) -> None:
        """Count the files that the program passes over: hidden, of another kind, outside a class folder."""
        for folder, subfolders, files in os.walk(root):
            hidden = [name for name in (*subfolders, *files) if name.startswith(".")]
            self.ignored["hidden files or folders"] += len(hidden)
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            self.left_out.update(kind_of_name(name) for name in files if is_left_out(name))
            if folder == root:
                images = [name for name in files if name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES)]
                self.ignored["images outside a class folder"] += len(images)


def report_layer(root: str, tree: folder_layouts.Folder, is_split: bool, report: Report) -> None:
    """Say if the folders of a root may be something else than classes."""
    is_wrong, doubt = folder_layouts.layer_doubt(tree, is_split)
    if doubt:
        (report.problem if is_wrong else report.warning)(NO_CLASSES, f"{root}: {doubt}")


def list_of_names(dataset: Inventory) -> bytes:
    """The paths of the unreadable images, one a line, each byte as in the file system but for backslash and newline."""
    paths: Iterable[str] = (dataset.path(index) for index in np.flatnonzero(~dataset.is_readable()))
    return b"".join(os.fsencode(path).replace(b"\\", b"\\\\").replace(b"\n", b"\\n") + b"\n" for path in paths)
