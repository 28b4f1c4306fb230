# SPDX-License-Identifier: Apache-2.0
"""Which folders of a source are splits, and which are classes: by their names, and by what lies in them.

People wrap their folders once or twice, call the splits seg_train or Testing, and leave copies beside them. What one
careful look makes clear is taken, and said; the rest is refused with what to do: a wrong layer of folders would train
to an accuracy that means nothing.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from core.split_names import UNNAMED, split_names
from preparing.archives import Parts

NO_CLASS = re.compile(rf"{UNNAMED.pattern}|images?|imgs?|data|dataset|annotations?|labels?|masks?", re.I)
SHOWN = 5  # names in a line


class Folder:
    """A folder with its folders that hold images; `images` lie right in it."""

    def __init__(self) -> None:
        self.folders: dict[str, Folder] = {}
        self.images = 0

    @classmethod
    def of(cls, names: Iterable[Parts]) -> "Folder":
        """The tree of some images."""
        root = cls()
        for parts in names:
            root.add(parts[:-1])
        return root

    def add(self, path: Parts, images: int = 1) -> None:
        """Add images to the folder at a path below it."""
        folder = self
        for part in path:
            folder = folder.folders.setdefault(part, Folder())
        folder.images += images

    def unwrapped(self, path: Parts = ()) -> tuple[Parts, "Folder"]:
        """The first folder on the way down that holds several, or one without folders: path and folder."""
        folder = self
        while len(folder.folders) == 1:
            ((name, inner),) = folder.folders.items()
            if not inner.folders:
                break
            path, folder = (*path, name), inner
        return path, folder

    def holds_classes(self) -> bool:
        """Tell whether it holds two folders or more, perhaps below others that wrap them."""
        return len(self.unwrapped()[1].folders) > 1

    def inner_names(self) -> set[str]:
        """The names of those folders."""
        return set(self.unwrapped()[1].folders) if self.holds_classes() else set()


class Layout(NamedTuple):
    """Where the class folders lie."""

    splits: dict[Parts, str]  # the folder of class folders -> train or valid; empty: to be divided by the share
    notes: list[str]  # what was taken for what

    def place(self, parts: Parts) -> tuple[str, str, str] | None:
        """Split, class and name inside the class of an image; None if it lies outside class folders."""
        for path, split in self.splits.items():
            if len(parts) > len(path) + 1 and parts[: len(path)] == path:
                return split, parts[len(path)], "/".join(parts[len(path) + 1 :])
        return None


def find_layout(root: Folder, source: Path, test_as_valid: bool) -> Layout:
    """What the folders are, by the names of all images in the source.

    source: its path, for the commands in errors. Raises: ValueError where it stays doubtful.
    """
    path, top = root.unwrapped()
    named = split_names(top.folders)
    if named:
        return Recognition(source, path, top, named, test_as_valid).layout()
    if test_as_valid:
        raise ValueError("--test-as-valid: no folder in it is called test; leave the option out")
    if reason := doubt(top) or variants(top):
        raise ValueError(reason)
    notes = [f"the class folders are those in {'/'.join(path)}: {listed(top.folders)}"] if path else []
    return Layout({path: ""}, notes)


def layer_doubt(top: Folder, is_split: bool) -> tuple[bool, str]:
    """What speaks against taking the folders in it for the classes; no text if nothing does.

    is_split: it lies in train or valid. Returns whether training on them makes no sense, and what to say.
    """
    named = split_names(top.folders)
    is_deeper = any(top.folders[name].holds_classes() for name in named)
    if named:
        text = f"{listed(named)} called like a split: if that is a class, all is well; if not, another layer is meant"
        return is_deeper or not is_split or len(named) == len(top.folders), text
    if not top.folders:  # said otherwise
        return False, ""
    return len(top.folders) == 1, doubt(top) or variants(top)


def listed(names: Iterable[str]) -> str:
    """Some names, and how many there are beyond those shown."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def doubt(top: Folder) -> str:
    """Why the folders in it may be no classes, and what to do; empty if nothing speaks against it."""
    classes = top.folders
    if len(classes) < 2:
        only = f"only one class folder, {listed(classes)}" if classes else "images, but no class folders"
        return f"holds {only}; sort them into two folders or more, each named after what its images show"
    if odd := [name for name in classes if NO_CLASS.fullmatch(name)]:
        return (
            f"{listed(odd)} beside {listed(classes.keys() - odd) or 'each other'} is no name of a class: rename it "
            "after what its images show, move it away, or name the folder of the classes with --source"
        )
    inner = {name: folder.inner_names() for name, folder in classes.items()}
    for name, names in inner.items():
        if copies := names & classes.keys():
            return f"{name!r} holds {listed(copies)}, which lie beside it too: move one of the two away"
        if len(set(split_names(names).values())) > 1:
            return (
                f"{name!r} beside {listed(classes.keys() - {name})} holds the splits {listed(split_names(names))}: "
                f"name the folder that is meant with --source, or arrange the images as train/{name}/..."
            )
    return ""


def variants(top: Folder) -> str:
    """Why the folders may be the same classes in several forms, or not the classes but the layer above."""
    classes = top.folders
    shared = set.intersection(*(folder.inner_names() for folder in classes.values()))
    if len(shared) < 2 or any(folder.images for folder in classes.values()):
        return ""
    return (
        f"{listed(classes)} all hold {listed(shared)}: if these are the classes, name one of the folders above with "
        "--source; else move the images out of them"
    )


class Recognition:
    """What the folders of one layer are, some of which are called like splits."""

    def __init__(self, source: Path, path: Parts, top: Folder, named: dict[str, str], test_as_valid: bool) -> None:
        self.source, self.path, self.top, self.named, self.test_as_valid = source, path, top, named, test_as_valid
        self.others = sorted(top.folders.keys() - named)
        self.holders: dict[str, str] = {}  # split -> its folder, if that holds class folders

    def layout(self) -> Layout:
        """Raises: ValueError, as find_layout()."""
        self.find_holders()
        self.check_train()
        valid = self.choose_valid()
        train = self.inside(self.holders["train"])
        if not valid:
            self.check_classes(train, alone=True)
            note = f"{'/'.join(train)} was taken for the whole and divided by the share{self.left_out()}"
            return Layout({train: ""}, [note])
        splits = {train: "train", self.inside(valid): "valid"}
        for path in splits:
            self.check_classes(path, alone=len({frozenset(self.folder(each).folders) for each in splits}) > 1)
        taken = ", ".join(f"{'/'.join(path)} was taken for {split}" for path, split in splits.items())
        reason = ", as --test-as-valid asks" if self.test_as_valid else ""
        return Layout(splits, [f"{taken}{reason}{self.left_out(valid)}"])

    def find_holders(self) -> None:
        """Raises: ValueError if two folders of class folders are called like one split."""
        for name, split in sorted(self.named.items()):
            if not self.top.folders[name].holds_classes():
                continue
            if split in self.holders:
                both = f"{self.holders[split]} and {name}"
                raise ValueError(f"{both} are both called {split}; move one away, or rename it")
            self.holders[split] = name

    def check_train(self) -> None:
        """Raises: ValueError unless one folder is called train and holds class folders, and no other could be one."""
        names, others = listed(self.named), listed(self.others)
        if "train" not in self.holders and self.others:
            raise ValueError(
                f"{names} called like a split beside {others}: if it is a class, rename it (for example "
                f"{min(self.named) + ' class'!r}); if not, move it away, or name the folder of classes with --source"
            )
        if not self.holders:
            raise ValueError(
                f"{names} hold images, but not two class folders: sort the images of each into folders "
                "named after what they show"
            )
        if "train" not in self.holders:
            raise ValueError(
                f"holds {' and '.join(sorted(self.holders.values()))} without the split to train "
                "on; name the folder of the classes with --source"
            )
        classes = self.folder(self.inside(self.holders["train"])).folders
        if copies := classes.keys() & set(self.others):
            raise ValueError(f"{listed(copies)} beside {self.holders['train']} and in it too: move one away")

    def choose_valid(self) -> str:
        """The folder to validate on; empty if train is to be divided. Raises: ValueError if that is not clear."""
        valid, test = (self.holders.get(split, "") for split in ("valid", "test"))
        if self.test_as_valid and (valid or not test):
            reason = f"{valid} is there to validate on" if valid else "no folder called test holds class folders"
            raise ValueError(f"--test-as-valid: {reason}; leave the option out")
        if valid or self.test_as_valid:
            return valid or test
        train = f"--source {shlex.quote(str(self.source.joinpath(*self.path, self.holders['train'])))}"
        if not self.source.is_dir():
            train = f"unpack it, and --source .../{self.holders['train']}"
        if test:
            raise ValueError(
                f"holds {self.holders['train']} and {test}, and nothing to validate on; --test-as-valid "
                f"takes {test} for that; {train} divides the training images by --valid-share"
            )
        flat = [name for name, split in self.named.items() if split == "valid"]
        unclear = flat + [name for name in self.others if self.top.folders[name].holds_classes()]
        if unclear:
            raise ValueError(
                f"what is {listed(unclear)} beside {self.holders['train']}? To validate on it, call it "
                f"valid and give it the same class folders; {train} leaves it out and divides the rest by --valid-share"
            )
        return ""

    def check_classes(self, path: Parts, alone: bool) -> None:
        """Raise ValueError if the folders in a split may be no classes; less is doubtful if both splits have them."""
        folder = self.folder(path)
        reason = doubt(folder) or (variants(folder) if alone else "")
        named = split_names(folder.folders)
        is_deeper = any(folder.folders[name].holds_classes() for name in named)
        if named and (alone or is_deeper or len(named) == len(folder.folders)):
            reason = f"holds {listed(named)}: if that is a class, rename it; if not, name the folder that is meant"
        if reason:
            raise ValueError(f"{'/'.join(path)}: {reason}")

    def folder(self, path: Parts) -> Folder:
        """The folder at a path from the top of the source."""
        folder = self.top
        for name in path[len(self.path) :]:
            folder = folder.folders[name]
        return folder

    def inside(self, name: str) -> Parts:
        """Where the class folders of a split lie."""
        return self.top.folders[name].unwrapped((*self.path, name))[0]

    def left_out(self, valid: str = "") -> str:
        """What is said of the folders that were not taken."""
        rest = sorted(self.top.folders.keys() - {self.holders["train"], valid})
        flat = [name for name in rest if not self.top.folders[name].holds_classes()]
        why = {name: " (no class folders)" if name in flat else "" for name in rest}
        return f"; left out: {', '.join(name + why[name] for name in rest)}" if rest else ""
