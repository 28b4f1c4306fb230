# SPDX-License-Identifier: Apache-2.0
"""The list of all images of a dataset of class folders, and of what is not in it."""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from checking.images import ImageFiles, describe_balance, report_copies
from checking.report import Kind, Report
from core.folders import list_classes, list_images
from core.image_names import IMAGE_SUFFIXES, describe_left_out, is_left_out, kind_of_name
from core.plurals import counted
from preparing import folder_layouts

SPLIT_FOLDERS = {"train": ("train", "ILSVRC2012_img_train"), "valid": ("valid", "ILSVRC2012_img_val")}
NO_CLASSES = Kind(
    "folder that may be no class",
    "folders that may be no classes",
    "; prepare_dataset.py folder --source FOLDER arranges what it understands",
)
MISSING_FOLDERS = Kind("missing folder", "missing folders")
IN_BOTH = Kind("file", "files", " in both train and valid: the accuracy will look better than it is")
# Each finding is all files of one content.
CONTRADICTION = Kind(
    "case of equal files", "cases of equal files", " in different classes: their labels contradict each other"
)


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
            report.problem(MISSING_FOLDERS, f"{folder / split}: training needs train and valid")
    if not splits:
        list_classes(str(folder))  # raises: a folder of neither kind is a wrong command, not a bad dataset
    return splits or {"": str(folder)}


class Inventory(ImageFiles):
    """Names, classes and findings of all images, in numpy arrays: 60 bytes and the name for each of a million files."""

    def __init__(self, splits: dict[str, str], report: Report) -> None:
        self.roots, self.splits = list(splits.values()), list(splits)
        self.folders: list[tuple[int, str]] = []  # (split, class name)
        self.ignored: Counter[tuple[str, str]] = Counter()  # by what one and what several are called
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
        super().__init__(len(self.ends))

    def path(self, index: int | np.intp) -> str:
        """The file of one image."""
        split, class_name = self.folders[self.folder_of[index]]
        start = self.ends[index - 1] if index else 0
        return os.path.join(self.roots[split], class_name, os.fsdecode(self.names[start : self.ends[index]]))

    def report_duplicates(self, report: Report) -> None:
        """Warn of equal files in both splits, and of equal files in different classes; count the rest."""
        groups = self.equal_files()
        for group in groups:
            folders = [self.folders[self.folder_of[index]] for index in group]
            names = self.show_equal(group)
            if len({split for split, _ in folders}) > 1:
                report.warning(IN_BOTH, names)
            if len({class_name for _, class_name in folders}) > 1:
                report.warning(CONTRADICTION, names)
        report_copies(groups, report)

    def report_statistics(self, report: Report) -> None:
        """Images and classes of each split, sizes, kinds, what is ignored."""
        counts = np.bincount(self.folder_of, minlength=len(self.folders))
        for split, name in enumerate(self.splits):
            of_split = {
                class_name: int(count)
                for (split_of_class, class_name), count in zip(self.folders, counts, strict=True)
                if split_of_class == split
            }
            images, classes = counted(sum(of_split.values()), "image"), counted(len(of_split), "class", "classes")
            line = f"{name or 'images'}: {images} in {classes}"
            report.say(line + (f"; {describe_balance(of_split)}" if of_split else ""))
        self.report_pixels(report)
        ignored = [counted(count, *what) for what, count in self.ignored.items() if count]
        if self.left_out:
            ignored.append(describe_left_out(self.left_out))
        if ignored:
            report.say(f"ignored: {', '.join(ignored)}")

    def _list_classes(self, split: int, report: Report) -> list[str]:
        """The classes of a split; names those that another split has and this one has not."""
        root = self.roots[split]
        try:
            classes = list_classes(root)
        except OSError as error:
            report.problem(MISSING_FOLDERS, str(error))
            return []
        earlier = {name for of_split, name in self.folders if of_split != split}
        for name in sorted(earlier.symmetric_difference(classes)) if split else ():
            there, missing = (self.roots[0], root) if name in earlier else (root, self.roots[0])
            report.problem(
                Kind("class", "classes", " on one side only"), f"{missing}/{name}: not there, but {there}/{name} is"
            )
        return classes

    def _list_images(self, split: int, class_name: str, report: Report) -> list[bytes]:
        folder = os.path.join(self.roots[split], class_name)
        try:
            images = list_images(folder)
        except OSError as error:
            report.problem(Kind("folder", "folders", " that cannot be read"), f"{folder}: {error.strerror or error}")
            return []
        except ValueError as error:
            report.problem(Kind("link that leads back", "links that lead back"), str(error))
            return []
        if not images:
            report.problem(
                Kind("class folder", "class folders", " without images"), f"{folder}: add images or remove the folder"
            )
        return images

    def _count_ignored(self, root: str) -> None:
        """Count the files that the program passes over: hidden, of another kind, outside a class folder."""
        for folder, subfolders, files in os.walk(root):
            hidden = [name for name in (*subfolders, *files) if name.startswith(".")]
            self.ignored["hidden file or folder", "hidden files or folders"] += len(hidden)
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            self.left_out.update(kind_of_name(name) for name in files if is_left_out(name))
            if folder == root:
                images = [name for name in files if name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES)]
                self.ignored["image outside a class folder", "images outside a class folder"] += len(images)


def report_layer(root: str, tree: folder_layouts.Folder, is_split: bool, report: Report) -> None:
    """Say if the folders of a root may be something else than classes."""
    is_wrong, doubt = folder_layouts.layer_doubt(tree, is_split)
    if doubt:
        (report.problem if is_wrong else report.warning)(NO_CLASSES, f"{root}: {doubt}")
