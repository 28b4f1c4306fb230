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
    has_crowds: bool  # whether what is ignored are crowds (COCO) or difficult objects (Pascal VOC)
    remedy: str  # for other classes than were asked for
    is_endless: bool  # whether there are others than those that it counts, so that every epoch has new ones

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Annotated: ...

    def path(self, index: int) -> str:
        """What one of them is called in messages."""
        ...


class SceneSource:
    """Scenes of digits, `count` in an epoch, with boxes and masks; a Source. `split`, `side`: as of split_scenes().

    `classes`: the digits in the order of a training. Raises: ValueError if they are others.
    """

    def __init__(self, split: str, count: int, side: int, classes: Sequence[str] = SCENE_CLASSES) -> None:
        self.scenes, self.count = split_scenes(split, MOST_SCENES, side), count
        self.root, self.most_objects = f"{split} scenes", NUM_DIGITS[1]
        self.classes = choose_classes(SCENE_CLASSES, classes, self.root, True, "set data_dir to the folder of theirs")
        self.places = np.array([self.classes.index(name) for name in SCENE_CLASSES])
        self.notes, self.remedy = list[str](), "correct data_dir"
        self.has_crowds, self.is_endless = False, True  # nothing is ignored

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        """What one scene is called in messages, which tell the epoch besides."""
        return f"scene {index} of {self.root}"

    def __getitem__(self, index: int) -> Annotated:
        image, boxes, labels, mask = self.scenes[index]
        of_mask = np.append(0, 1 + self.places).astype(np.uint8)  # the background stays the first
        return Annotated(image, boxes.reshape(-1, 4), self.places[labels], np.zeros(len(labels), bool), of_mask[mask])


MOST_SCENES = 2**48  # more than any run sees


def open_pictures(
    config: ModuleType, split: str, class_names: Sequence[str] | None = None, *, masks: bool = False
) -> Source:
    """The "train", "valid" or "test" pictures of a task's config.py with boxes, or `masks`; prints their notes.

    `class_names`: those of the training, with masks the background first; a line is printed if they are not known of
    weights to test. Raises: FileNotFoundError; ValueError if the classes are others or not model_num_classes; as
    core.annotated_folders.open_source().
    """
    background = [BACKGROUND] if masks else []
    classes = class_names[len(background) :] if class_names else None
    source: Source
    if config.data_dir:
        source = open_source(config.data_dir, getattr(config, f"{split}_split"), masks=masks, classes=classes)
    else:
        count = getattr(config, f"{split}_scenes")
        source = SceneSource(split, count, config.image_size, classes or SCENE_CLASSES)
    for note in source.notes:
        print(note)
    refuse_other_number(config, source, background)
    if class_names is None and split == "test":
        print(f"{describe_unnamed(background + source.classes)}.")
    return source


def refuse_other_number(config: ModuleType, source: Source, background: list[str]) -> None:
    """Raise ValueError unless a source has model_num_classes, with the background if there is one."""
    found = len(background) + len(source.classes)
    if config.model_num_classes != found:
        line = config_lines(config).get("model_num_classes", "?")
        raise ValueError(
            f"config.py line {line}: model_num_classes = {config.model_num_classes}, but {source.root} has "
            f"{counted(found, 'class', 'classes')}{' with the background' if background else ''}; set it to {found}, "
            f"or {source.remedy}"
        )
