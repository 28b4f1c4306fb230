# SPDX-License-Identifier: Apache-2.0
"""Which folders are called as splits are, in any spelling, and which have no name of their own."""

import re
from collections.abc import Iterable

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainset", "trainingset"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "validset", "valset", "validationset"), "valid"),
    **dict.fromkeys(("test", "testing", "testset", "testingset", "eval", "evaluation"), "test"),
}
# What may stand beside such a word, as in train_images, without making it another name.
GENERAL_WORDS = frozenset(("set", "data", "dataset", "folder", "images", "imgs", "photos", "pictures", "split"))
NEW_FOLDER = "(new|untitled) folder|neuer ordner|nouveau dossier|nueva carpeta|nuova cartella|nova pasta"
UNNAMED = re.compile(rf"({NEW_FOLDER})[ _-]*\(?\d*\)?", re.I)  # as systems call a new folder


def split_names(names: Iterable[str]) -> dict[str, str]:
    """Which of the folders beside each other are called train, valid or test, in any spelling.

    Other words must be general ones (training_set, Test Images) or those of another folder (seg_train, seg_test):
    train_station and test tube are none.
    """
    found = {name: split_and_rest(name) for name in names}
    rests = [rest for _, rest in found.values()]
    return {name: split for name, (split, rest) in found.items() if split and (not rest or rests.count(rest) > 1)}


def split_and_rest(name: str) -> tuple[str | None, frozenset[str]]:
    """The split that a name has a word for, if it is just one, and its words that are neither that nor general."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # TrainSet
    words = {word.lower() for word in re.findall(r"[^\W\d_]+", spaced)}
    splits = {SPLIT_WORDS[word] for word in words & SPLIT_WORDS.keys()}
    rest = frozenset(words - SPLIT_WORDS.keys() - GENERAL_WORDS)
    return (splits.pop() if len(splits) == 1 else None), rest
