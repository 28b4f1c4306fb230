# SPDX-License-Identifier: Apache-2.0
"""The pictures that a task other than classifying reads: scenes of digits, or a folder of photos."""

from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

import numpy as np

from core.annotated_folders import open_source
from core.annotated_images import Annotated, choose_classes
from core.class_names import describe_unnamed
from core.digit_scenes import NUM_DIGITS, SCENE_CLASSES, split_scenes
from core.plurals import counted
from core.settings import config_lines

BACKGROUND = "background"  # what networks that give a class for every pixel call the first


class Source(Protocol):
    """source[index] -> Annotated, with a mask where masks were asked for; images of any size."""

    root: str  # what it is called
    classes: list[str]  # without the background
    notes: list[str]  # lines that people should see
    most_objects: int  # in one picture; 0 where only masks are read
    has_crowds: bool  # whether what is ignored are crowds, of which each part is one find, or objects like others
    remedy: str  # for other classes than were asked for
    is_endless: bool  # whether there are others than those that it counts, so that every epoch has new ones

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Annotated: ...

    def path(self, index: int) -> str:
        """What one of them is called in messages."""
        ...


class SceneSource:
    """Scenes of digits, `count` in an epoch, with boxes and masks; a Source. `split`, `side`: as of split_scenes()."""

    def __init__(self, split: str, count: int, side: int) -> None:
        self.scenes, self.count = split_scenes(split, MOST_SCENES, side), count
        self.root, self.classes, self.most_objects = f"{split} scenes", list(SCENE_CLASSES), NUM_DIGITS[1]
        self.notes, self.remedy = list[str](), "correct data_dir"
        self.has_crowds, self.is_endless = False, True  # nothing is ignored

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        """What one scene is called in messages."""
        return f"scene {index} of {self.root}"

    def __getitem__(self, index: int) -> Annotated:
        image, boxes, labels, mask = self.scenes[index]
        return Annotated(image, boxes.reshape(-1, 4), labels, np.zeros(len(labels), bool), mask)


MOST_SCENES = 2**48  # more than any run sees


def number_in_epoch(source: Source, epoch: int, index: int) -> int:
    """Which picture of a source a training takes as that of `index` in an epoch."""
    return epoch * len(source) + index if source.is_endless else index


def read_picture(source: Source, number: int, skip_bad: bool) -> Annotated | None:
    """source[number]; None for one that cannot be read if `skip_bad`. Raises: ValueError, OSError as the source."""
    try:
        return source[number]
    except (ValueError, OSError):
        if skip_bad:
            return None
        raise


def open_pictures(
    config: ModuleType, split: str, class_names: Sequence[str] | None = None, *, masks: bool = False
) -> Source:
    """The "train", "valid" or "test" pictures of a task's config.py with boxes, or `masks`; prints their notes.

    `class_names`: those of the training, with masks the background first; a line is printed if they are not known of
    weights to test. Raises: FileNotFoundError, ValueError if the
    classes are others or not model_num_classes, or as core.annotated_folders.open_source().
    """
    background = int(masks)
    classes = class_names[background:] if class_names else None
    source: Source
    if config.data_dir:
        source = open_source(config.data_dir, getattr(config, f"{split}_split"), masks=masks, classes=classes)
    else:
        source = SceneSource(split, getattr(config, f"{split}_scenes"), config.image_size)
        choose_classes(source.classes, classes, source.root, masks)
    for note in source.notes:
        print(note)
    found = background + len(source.classes)
    if config.model_num_classes != found:
        line = config_lines(config).get("model_num_classes", "?")
        raise ValueError(
            f"config.py line {line}: model_num_classes = {config.model_num_classes}, but {source.root} has "
            f"{counted(found, 'class', 'classes')}{' with the background' if masks else ''}; set it to {found}, or "
            f"{source.remedy}"
        )
    if class_names is None and split == "test":
        print(f"{describe_unnamed([BACKGROUND] * background + source.classes)}.")
    return source
