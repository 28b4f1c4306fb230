# SPDX-License-Identifier: Apache-2.0
"""The rules for the values of config.py, and the check of all of them before the first slow action."""

import ast
import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch


def is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) < 1e300 and least <= value <= most  # which no NaN is


def is_triple(value: object, least: float, most: float) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(is_number(v, least, most) for v in value)


def is_crop_scale(value: object) -> bool:
    if not isinstance(value, (list, tuple)):
        return value is None
    return len(value) == 2 and all(is_number(v, 0, 1) for v in value) and 0 < value[0] <= value[1]


def is_device(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"cpu|cuda(:\d|:[1-9]\d)?", value) is not None


Rule = tuple[Callable[[Any], bool], str]
FLAG: Rule = (lambda v: isinstance(v, bool), "True or False")
COUNT: Rule = (lambda v: is_int(v, 1), "an int >= 1")
WORKERS: Rule = (lambda v: is_int(v, 0), "an int >= 0")
SHARE: Rule = (lambda v: is_number(v, 0, 1), "a number from 0 to 1")
SHARE_BELOW_1: Rule = (lambda v: is_number(v, 0) and v < 1, "a number from 0 to below 1")
NOT_NEGATIVE: Rule = (lambda v: is_number(v, 0), "a number >= 0")
POSITIVE: Rule = (lambda v: is_number(v, 0) and v > 0, "a number above 0")
PATH: Rule = (lambda v: isinstance(v, str) and v != "", "a path, as a string")
PATH_OR_NONE: Rule = (lambda v: isinstance(v, str), 'a string, "" for none')
FOLDER_NAME: Rule = (
    lambda v: isinstance(v, str) and re.fullmatch(r"(?!\.)[^/\\\x00-\x1f]{1,100}", v) is not None,
    "the name of a folder: a string of 1 to 100 characters without / and not starting with a dot",
)
NUM_BLOCKS = 19  # network.features has so many: the first convolution, 17 inverted residuals, the last convolution
PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "auto")

# What each value of config.py must be. A test holds the two files together.
SHARED_RULES: dict[str, Rule] = {
    "mode": (lambda v: v in ("train", "test"), '"train" or "test"'),
    "dataset_name": FOLDER_NAME,
    "exp_name": FOLDER_NAME,
    "seed": (lambda v: is_int(v, 0) and v < 2**63, "an int >= 0"),
    "device": (is_device, '"cpu", "cuda" or "cuda:N"'),
    "precision": (lambda v: v in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "compile_model": FLAG,
    "image_size": (lambda v: is_int(v, 32), "an int >= 32"),
    "model_arch_name": (lambda v: v == "mobilenet_v2", '"mobilenet_v2"'),
    "model_width_mult": POSITIVE,
    "model_mean_parameters": (lambda v: is_triple(v, 0, 1), "three numbers from 0 to 1"),
    "model_std_parameters": (lambda v: is_triple(v, 1e-6, 1e6), "three numbers above 0"),
    "model_num_classes": COUNT,
    "model_weights_path": PATH,
    "inference_image_path": PATH,
    "class_label_file": PATH_OR_NONE,
    "apply_orientation": FLAG,
    "deterministic": FLAG,
    "model_padding": (lambda v: v in ("symmetric", "same"), '"symmetric" or "same"'),
    "model_batch_norm_eps": (lambda v: is_number(v, 1e-12, 1), "a number from 1e-12 to 1, like 1e-5"),
}
TRAIN_RULES: dict[str, Rule] = {
    "train_image_dir": PATH,
    "valid_image_dir": PATH,
    "num_workers": WORKERS,
    "bad_images": (lambda v: v in ("stop", "skip"), '"stop" or "skip"'),
    "cache_images": FLAG,
    "pretrained_model_weights_path": PATH_OR_NONE,
    "resume": PATH_OR_NONE,
    "epochs": COUNT,
    "batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "model_lr": POSITIVE,
    "lr_warmup_epochs": NOT_NEGATIVE,
    "model_momentum": SHARE_BELOW_1,
    "model_weight_decay": NOT_NEGATIVE,
    "model_ema_decay": SHARE_BELOW_1,
    "model_dropout": SHARE_BELOW_1,
    "loss_label_smoothing": SHARE,
    "random_crop_scale": (is_crop_scale, "None or two shares of the area, like (0.08, 1.0)"),
    "random_flip_probability": SHARE,
    "trivial_augment": FLAG,
    "random_erasing_probability": SHARE,
    "mixup_alpha": NOT_NEGATIVE,
    "cutmix_alpha": NOT_NEGATIVE,
    "train_print_frequency": COUNT,
    "valid_print_frequency": COUNT,
    "sync_batch_norm": FLAG,
    "frozen_blocks": (
        lambda v: is_int(v, 0) and v <= NUM_BLOCKS,
        f"an int from 0 to {NUM_BLOCKS}, of all blocks",
    ),
    "backbone_lr_factor": POSITIVE,
    "cached_views": WORKERS,
    "class_weights": (lambda v: v in (None, "balanced"), 'None or "balanced"'),
    "checkpoint_every_minutes": NOT_NEGATIVE,
    "keep_checkpoints": COUNT,
}
TEST_RULES: dict[str, Rule] = {
    "test_image_dir": PATH,
    "batch_size": COUNT,
    "num_workers": WORKERS,
    "test_print_frequency": COUNT,
}
# What other programs call some of them, where neither the words nor the spelling are alike.
OTHER_NAMES = {
    **dict.fromkeys(("lr", "lr0", "learning_rate", "base_lr", "max_lr", "peak_lr"), "model_lr"),
    **dict.fromkeys(("imgsz", "input_size", "crop_size", "resolution"), "image_size"),
    **dict.fromkeys(("model", "model_name", "backbone"), "model_arch_name"),
    **dict.fromkeys(("gpu", "gpus", "cuda"), "device"),
    **dict.fromkeys(("amp", "fp16", "half"), "precision"),
    **dict.fromkeys(("accum_iter", "grad_accum", "accumulate"), "gradient_accumulation_steps"),
    **{"weights": "model_weights_path", "wd": "model_weight_decay", "bs": "batch_size", "val_dir": "valid_image_dir"},
}


Check = Callable[[ModuleType, dict[str, int]], None]  # of a config.py, with the line of each name


class Rules(NamedTuple):
    """The names of a config.py and what each must be: for all scripts, and for those of a mode."""

    shared: dict[str, Rule]
    train: dict[str, Rule]
    test: dict[str, Rule]
    check_together: Check  # of training

    def of_mode(self, mode: str) -> dict[str, Rule]:
        """Those that a mode reads."""
        return self.shared | {"train": self.train, "test": self.test}.get(mode, {})

    def all(self) -> dict[str, Rule]:
        """Those of both modes."""
        return self.shared | self.train | self.test


def check_config(config: ModuleType, needed_mode: str | None = None, rules: Rules | None = None) -> None:
    """Check every value of config.py before the first slow action, and expand ~ in its paths.

    `needed_mode`: the mode the calling script runs in; None takes either. `rules`: of another task than classifying.
    Raises: ValueError for the first name that is missing, unknown or has a bad value, with its line.
    """
    rules = rules or CLASSIFIER_RULES
    mode = getattr(config, "mode", None)
    lines = config_lines(config)
    if mode in ("train", "test") and needed_mode not in (None, mode):
        raise ValueError(f'config.py line {lines["mode"]}: mode = "{mode}"; this script needs "{needed_mode}"')
    known = rules.all()
    unknown = [name for name in lines if name not in known and not name.startswith("_")]
    for name, rule in rules.of_mode(str(mode)).items():
        is_valid, expected = rule
        if not hasattr(config, name):
            meant = next((other for other in unknown if likely_name(other, [name])), None)
            remedy = f"line {lines[meant]} sets {meant}: rename it" if meant else f"set it to {expected}"
            raise ValueError(f"config.py: {name} is missing; {remedy}")
        value = getattr(config, name)
        if not is_valid(value):
            raise ValueError(f"config.py line {lines.get(name, '?')}: {name} = {value!r}; expected {expected}")
        if rule in (PATH, PATH_OR_NONE):
            setattr(config, name, os.path.expanduser(value))
    if unknown:
        meant = likely_name(unknown[0], known)
        hint = f" (did you mean {meant}?)" if meant else ""
        raise ValueError(
            f"config.py line {lines[unknown[0]]}: unknown name {unknown[0]}{hint}; names of your own start with _"
        )
    if config.precision in ("float16", "tf32") and config.device == "cpu":
        raise ValueError(
            f'config.py line {lines.get("precision", "?")}: precision = "{config.precision}" needs a GPU, and device = '
            f'"cpu" (line {lines.get("device", "?")}); set it to "float32" or "auto"'
        )
    if needed_mode == "train":
        rules.check_together(config, lines)


def likely_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant: by a table, by the words in the two, else by their spelling."""
    name, known = name.lower(), list(known)
    if name in OTHER_NAMES:
        return OTHER_NAMES[name] if OTHER_NAMES[name] in known else None
    words = set(name.split("_"))
    alike = [other for other in known if words <= set(other.split("_")) or words >= set(other.split("_"))]
    return alike[0] if len(alike) == 1 else next(iter(difflib.get_close_matches(name, known, n=1)), None)


def check_together(config: ModuleType, lines: dict[str, int]) -> None:
    """Raise ValueError where values of a training run are right one by one, but not together."""
    line = {name: lines.get(name, "?") for name in SHARED_RULES | TRAIN_RULES}
    check_warmup(config, lines)
    check_frozen(config, line)
    side = math.ceil(config.image_size / 32)  # of the last feature map
    if config.frozen_blocks < NUM_BLOCKS and batch_norm_values(config, side) < 2:
        raise ValueError(
            f"config.py line {line['batch_size']}: batch_size = 1 with image_size = {config.image_size} (line "
            f"{line['image_size']}) leaves batch-norm one value of each channel, and it needs 2; set batch_size to at "
            "least 2; 16 or more trains better"
        )


def batch_norm_values(config: ModuleType, side: int) -> int:
    """How many values of each channel batch-norm has of a map with such a side, while training."""
    processes = int(os.environ.get("WORLD_SIZE", "1")) if config.sync_batch_norm else 1
    return int(config.batch_size) * processes * side**2


class SmallestMap(NamedTuple):
    """A map of a network: what it is called, and its side in pixels by that of the image."""

    name: str
    side: Callable[[int], int]


def check_task_together(config: ModuleType, lines: dict[str, int], smallest_map: SmallestMap) -> None:
    """check_together() of another task than classifying. `smallest_map`: as of rules_of_task()."""
    check_warmup(config, lines)
    if batch_norm_values(config, smallest_map.side(config.image_size)) < 2:
        raise ValueError(
            f"config.py line {lines.get('batch_size', '?')}: batch_size = 1 leaves the batch-norm of "
            f"{smallest_map.name} one value of each channel, and it needs 2; set batch_size to at least 2"
        )


# What the classifier and the other tasks have in common where mode = "train".
TASK_TRAIN_NAMES = (
    *("num_workers", "bad_images", "pretrained_model_weights_path", "resume", "epochs", "batch_size"),
    *("gradient_accumulation_steps", "model_lr", "backbone_lr_factor", "lr_warmup_epochs", "model_momentum"),
    *("model_weight_decay", "model_ema_decay", "random_crop_scale", "random_flip_probability"),
    *("train_print_frequency", "valid_print_frequency", "sync_batch_norm", "checkpoint_every_minutes"),
    "keep_checkpoints",
)


def rules_of_task(name: str, shared: dict[str, Rule], train: dict[str, Rule], smallest_map: SmallestMap) -> Rules:
    """Those of another task than classifying, on scenes or a folder: rules of its own, and what all such tasks have.

    `name`: the network's. `smallest_map`: of those that have a batch-norm.
    """
    own = SHARED_RULES | {"data_dir": PATH_OR_NONE, "inference_image_path": PATH_OR_NONE} | shared
    own["model_arch_name"] = (lambda v: v == name, f'"{name}"')
    own["image_size"] = (lambda v: is_int(v, 64), "an int >= 64")
    pictures: dict[str, dict[str, Rule]] = {
        mode: {f"{split}_scenes": COUNT for split in splits} | {f"{split}_split": FOLDER_NAME for split in splits}
        for mode, splits in (("train", ("train", "valid")), ("test", ("test",)))
    }
    return Rules(
        shared={name: rule for name, rule in own.items() if name not in ("class_label_file", "apply_orientation")},
        train=pictures["train"] | {name: TRAIN_RULES[name] for name in TASK_TRAIN_NAMES} | train,
        test=pictures["test"] | {name: rule for name, rule in TEST_RULES.items() if name != "test_image_dir"},
        check_together=partial(check_task_together, smallest_map=smallest_map),
    )


CLASSIFIER_RULES = Rules(SHARED_RULES, TRAIN_RULES, TEST_RULES, check_together)


def check_warmup(config: ModuleType, lines: dict[str, int]) -> None:
    """Raise ValueError if the learning rate would never fall."""
    if config.lr_warmup_epochs >= config.epochs:
        raise ValueError(
            f"config.py line {lines.get('lr_warmup_epochs', '?')}: lr_warmup_epochs = {config.lr_warmup_epochs} is not "
            f"below epochs = {config.epochs} (line {lines.get('epochs', '?')}), so that the rate never falls; lower "
            "it, to a tenth of the epochs, say, or raise epochs"
        )


def check_frozen(config: ModuleType, line: Mapping[str, int | str]) -> None:
    """Raise ValueError if outputs of frozen blocks are to be kept that there are not, or that would be others."""
    if config.cached_views and not config.frozen_blocks:
        raise ValueError(
            f"config.py line {line['cached_views']}: cached_views = {config.cached_views} keeps outputs of frozen "
            f"blocks, and frozen_blocks = 0 (line {line['frozen_blocks']}) freezes none; set one of the two"
        )
    if config.cached_views and config.cutmix_alpha:
        raise ValueError(
            f"config.py line {line['cached_views']}: cached_views keeps outputs of whole images, and cutmix_alpha = "
            f"{config.cutmix_alpha} (line {line['cutmix_alpha']}) mixes pieces of them; set one of the two to 0, or "
            "take mixup_alpha, which mixes the outputs"
        )


def config_lines(config: ModuleType) -> dict[str, int]:
    """The line that sets each name of config.py, in the block of its mode or outside the blocks."""
    lines = {}
    active_block = f"mode == {getattr(config, 'mode', None)!r}"
    for statement in ast.parse(Path(str(config.__file__)).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) != active_block:
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and hasattr(config, node.id):
                lines[node.id] = node.lineno
    return lines


def config_place(config: ModuleType, name: str) -> str:
    """Where a name is set, for people: "config.py line 61", or with the folder of the task in front."""
    path, program = Path(str(config.__file__)).resolve(), Path(__file__).resolve().parent.parent
    place = path.relative_to(program) if path.is_relative_to(program) else path.name
    return f"{place} line {config_lines(config).get(name, '?')}"


def precision_name(precision: str, dtype: torch.dtype) -> str:
    """What `precision` = "auto" has become, and any other as it is: "tf32" is no dtype."""
    return str(dtype).removeprefix("torch.") if precision == "auto" else precision


def to_plain(value: Any) -> Any:
    """Tuples as lists and numpy's floats as Python's: values compare by what they say, and weights_only reads them."""
    return json.loads(json.dumps(value))
