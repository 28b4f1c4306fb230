# SPDX-License-Identifier: Apache-2.0
"""What the classes of a network are called: by the weights file, by a label file, by ImageNet, by class folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from core.folders import list_classes, shorten
from core.plurals import counted
from core.settings import config_lines


def name_classes(config: ModuleType, class_names: list[str] | None, image_dir: str) -> list[str] | None:
    """The class folders that the logits stand for, in their order; None: those of image_dir, as they come.

    class_names: those of the weights file. Without them class_label_file may have the names of the folders, and
    published weights for 1,000 classes have ImageNet's. Raises: ValueError if nothing names the classes of a folder
    that lacks some.
    """
    if class_names is not None and len(set(class_names)) < len(class_names):
        raise ValueError(f"{config.model_weights_path}: two of its classes have one name; name other weights")
    if class_names is not None:
        return class_names
    found, num_classes = list_classes(image_dir), config.model_num_classes
    labels = read_labels(config.class_label_file) if config.class_label_file else {}
    places = [str(place) for place in range(num_classes)]
    in_order = [labels[place] for place in places] if labels.keys() == set(places) else []
    for names in (in_order, imagenet_classes(num_classes) or []):
        if set(found) <= set(names) and len(set(names)) == num_classes:
            return names
    if len(found) < num_classes:
        they = "it is" if len(found) == 1 else "they are"
        raise ValueError(
            f"{image_dir}: {counted(len(found), 'class folder')} ({shorten(found)}), and which of the "
            f"{num_classes} classes of {config.model_weights_path} {they} is not known: it has no class names; name "
            f"another folder, or set config.py line {config_lines(config).get('class_label_file', '?')}: "
            f'class_label_file to a JSON object from "0" ... "{num_classes - 1}" to the names of class folders'
        )
    line = config_lines(config).get("class_label_file", "?")
    print(f"{describe_unnamed(found)}; class_label_file (config.py line {line}) can say otherwise.")
    return None


def describe_unnamed(names: Sequence[str]) -> str:
    """That weights do not name their classes, and what these are taken to be; without a full stop."""
    return f"The weights have no class names: their classes are taken to be {shorten(names)}, in this order"


def names_or_numbers(class_names: list[str] | None, first: Sequence[str], count: int) -> list[str]:
    """The class names of weights; without them, `first` and numbered ones up to `count`, of which a line is printed."""
    if class_names is None:
        class_names = [*first, *numbered_classes(count - len(first))]
        print(f"{describe_unnamed(class_names)}.")
    return class_names


def numbered_classes(count: int) -> list[str]:
    """What so many classes are called whose weights do not name them."""
    return [f"class {place}" for place in range(1, count + 1)]


def load_labels(label_file: str, class_names: list[str] | None, num_classes: int) -> list[str]:
    """The label of each class: the names in the weights file, or what a label file has for them.

    Its keys are the names of the classes, which for 1,000 classes without names are those of ImageNet's folders; or "0"
    to "C-1", which for classes named 1 to C are the numbers before theirs, and else the places of the classes.
    Raises: FileNotFoundError or ValueError if neither gives exactly `num_classes` labels.
    """
    if not label_file:
        if class_names is None:
            raise ValueError(
                "the weights file has no class names; set class_label_file in config.py "
                '(ImageNet: "./data/ImageNet_1K_labels_map.txt")'
            )
        return class_names
    labels = read_labels(label_file)
    names = class_names or imagenet_classes(num_classes) or []
    if set(labels) == set(names):
        keys = names
    elif set(names) == {str(place + 1) for place in range(num_classes)}:
        keys = [str(int(name) - 1) for name in names]
    else:
        keys = [str(place) for place in range(num_classes)]
    if set(labels) != set(keys):
        also = f", nor with one for each class folder ({', '.join(names[:3])} ...)" if names else ""
        raise ValueError(
            f'{label_file}: not a JSON object with the labels "0" to "{num_classes - 1}" and no others{also}'
        )
    return [labels[key] for key in keys]


def read_labels(path: str) -> dict[str, str]:
    """The label file that config.class_label_file names: a JSON object. Raises: FileNotFoundError, ValueError."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such file; correct class_label_file in config.py, or set it to ""')
    try:
        labels = json.loads(Path(path).read_text(encoding="utf-8-sig"))  # Windows puts a mark before it
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict):
        raise ValueError(f'{path}: not a JSON object from "0" on, or from class folders, to labels')
    return {key: str(label) for key, label in labels.items()}


def imagenet_classes(num_classes: int) -> list[str] | None:
    """The names of ImageNet's class folders in the order of the logits of published weights, if these are as many."""
    path = Path(__file__).parents[1] / "data/ImageNet_1K_synsets.txt"
    names = path.read_text(encoding="ascii").split() if path.is_file() else []
    return names if len(names) == num_classes else None
