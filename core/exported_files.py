# SPDX-License-Identifier: Apache-2.0
"""Files that scripts/export.py wrote for other runtimes, with the description beside each: NAME.onnx and NAME.json."""

import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from core.network_weights import CLASSIFIER_TASK, TASKS
from core.settings import SHARED_RULES, config_lines, to_plain

SUFFIXES = {".onnx": "onnx", ".xml": "openvino", ".pte": "executorch", ".tflite": "litert", ".mlpackage": "coreml"}
LARGEST_DESCRIPTION = 2**24


def is_exported(path: str | Path) -> bool:
    """Whether a path is named like a file for another runtime, and not like weights."""
    return Path(path).suffix.lower() in SUFFIXES


def refuse_exported(config: ModuleType) -> None:
    """Raise ValueError, with the line of config.py, if model_weights_path is an exported file, not one of weights."""
    if is_exported(config.model_weights_path):
        line = config_lines(config).get("model_weights_path", "?")
        raise ValueError(
            f"config.py line {line}: {config.model_weights_path} was exported already; set model_weights_path to the "
            "weights, like best.pth.tar"
        )


def description_path(path: str | Path) -> Path:
    """Where the description of an exported file stands."""
    return Path(path).with_suffix(".json")


def read_description(path: str | Path) -> dict[str, Any]:
    """What export.py wrote beside an exported file, whose bytes must be those that it verified.

    Raises: FileNotFoundError, or ValueError for a file that is damaged, of another task, or of another program.
    """
    path, beside = Path(path), description_path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; scripts/export.py writes it")
    if not beside.is_file():
        raise ValueError(
            f"{path}: {beside.name} is not beside it, so nobody knows what it takes and gives; copy the two together, "
            "or export it with scripts/export.py"
        )
    try:
        if beside.stat().st_size > LARGEST_DESCRIPTION:
            raise ValueError
        description: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        task = TASKS.get(str(description["network"]["model_arch_name"]), CLASSIFIER_TASK)
        if task == CLASSIFIER_TASK:
            check_description(description, SUFFIXES[path.suffix.lower()])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{beside}: not what scripts/export.py writes; export the weights again") from None
    if task != CLASSIFIER_TASK:
        raise ValueError(f"{path}: exported from {task}, and this is {CLASSIFIER_TASK}; name another file")
    check_content(path, description["files"])
    return description


def check_description(description: dict[str, Any], file_format: str) -> None:
    """Raise ValueError, KeyError, TypeError or AttributeError if a description lacks what its readers need."""
    taken, given, classes = description["input"], description["output"], description["classes"]
    is_right = (
        description["format"] == file_format
        and description["int8"] in ("", "post-training", "qat")
        and is_texts(classes)
        and is_texts(description["labels"])
        and len(description["labels"]) == len(classes) > 0
        and (taken["layout"], taken["type"]) in (("NCHW", "float32"), ("NHWC", "uint8"))
        and given["name"] in ("logits", "probabilities")
        and description["batch"] in ("1", "dynamic")
        and is_texts([*description["files"].keys(), *description["files"].values()])
    )
    if not is_right or not all(SHARED_RULES[name][0](value) for name, value in settings_of(description).items()):
        raise ValueError


def is_texts(value: object) -> bool:
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def settings_of(description: dict[str, Any]) -> dict[str, Any]:
    """What an exported file needs of config.py, by the names there."""
    taken, network = description["input"], description["network"]
    return {
        "image_size": taken["image_size"],
        "model_arch_name": network["model_arch_name"],
        "model_width_mult": network["model_width_mult"],
        "model_mean_parameters": taken["mean"],
        "model_std_parameters": taken["std"],
        "model_num_classes": len(description["classes"]),
        "apply_orientation": taken["apply_orientation"],
        "model_padding": network["model_padding"],
        "model_batch_norm_eps": network["model_batch_norm_eps"],
        "compile_model": False,
    }


def check_content(path: Path, hashes: dict[str, str]) -> None:
    """Raise ValueError unless a file, or each file of its folder, and those that belong to it have these SHA-256."""
    names = set(hashes)
    if path.suffix.lower() == ".mlpackage":
        belong = {f"{file.relative_to(path.parent)}" for file in path.rglob("*") if file.is_file()}
    else:
        belong = {path.name, path.with_suffix(".bin").name} if path.suffix.lower() == ".xml" else {path.name}
    if names != belong:
        raise ValueError(
            f"{path}: {description_path(path).name} beside it is of files with other names; give them the names that "
            "export.py gave, or export the weights again"
        )
    for name, expected in hashes.items():
        part = path.parent / name
        if not part.is_file():
            raise ValueError(f"{path}: {name}, which belongs to it, is no file beside it; copy all files of the export")
        if hash_file(part) != expected:
            raise ValueError(
                f"{part}: damaged or changed since scripts/export.py verified it; copy it again, or export the weights "
                "again"
            )


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_other_use(description: dict[str, Any], config: ModuleType) -> None:
    """Raise ValueError, with the line of config.py, for a value that an exported file contradicts."""
    for name, value in settings_of(description).items():
        if to_plain(getattr(config, name)) != value:
            shown = json.dumps(value) if isinstance(value, str) else value
            raise ValueError(
                f"{config.model_weights_path}: exported with {name} = {shown}; set config.py line "
                f"{config_lines(config).get(name, '?')} to it"
            )
    if config.precision not in ("auto", "float32"):
        raise ValueError(
            f'config.py line {config_lines(config).get("precision", "?")}: precision = "{config.precision}", and '
            f'{config.model_weights_path} has its own; set it to "auto"'
        )
