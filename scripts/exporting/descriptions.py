# SPDX-License-Identifier: Apache-2.0
"""What an exported file says of itself: NAME.json, whose first part is in the file too where its format has a place."""

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from core.class_names import load_labels
from core.exported_files import hash_file
from exporting.formats import FORMATS
from exporting.images import Images
from exporting.requests import LEVEL_INPUT, Choices
from imgproc import CROP_SHARE

DISTRIBUTIONS = {"ai_edge_litert": "ai-edge-litert"}  # where the package has another name than its module


def describe(config: ModuleType, choices: Choices, classes: Sequence[str], weights: Path) -> dict[str, Any]:
    """Who made the file of which weights, what it takes and what it gives; no path of this machine is in it."""
    return {
        "format": choices.format,
        "int8": choices.int8,
        "classes": list(classes),
        "labels": find_labels(config, classes),
        "input": describe_input(config, choices),
        "output": {"name": "probabilities" if choices.softmax else "logits", "type": "float32"},
        "batch": choices.batch,
    } | describe_making(config, choices.format, weights)


def describe_making(config: ModuleType, file_format: str, weights: Path) -> dict[str, Any]:
    """What a file was made of, and with what."""
    names = ("model_arch_name", "model_width_mult", "model_padding", "model_batch_norm_eps", "model_output_stride")
    return {
        "network": {name: getattr(config, name) for name in names if hasattr(config, name)},
        "weights": {"file": weights.name, "sha256": hash_file(weights)},
        "versions": {
            name: metadata.version(DISTRIBUTIONS.get(name, name)) for name in ("torch", *FORMATS[file_format].packages)
        },
    }


def describe_input(config: ModuleType, choices: Choices) -> dict[str, Any]:
    """How a picture becomes what the file takes."""
    takes_levels = choices.input == LEVEL_INPUT
    return {
        "name": "images",
        "layout": "NHWC" if takes_levels else "NCHW",
        "type": "uint8" if takes_levels else "float32",
        "channels": "RGB",
        "range": "levels 0 to 255" if takes_levels else "(level / 255 - mean) / std",
        "mean": list(config.model_mean_parameters),
        "std": list(config.model_std_parameters),
        "normalised_inside": takes_levels,
        "image_size": config.image_size,
        "resize": {"short_side": round(config.image_size / CROP_SHARE), "method": "bilinear, antialiased"},
        "crop": "central square",
        "apply_orientation": config.apply_orientation,
    }


def find_labels(config: ModuleType, classes: Sequence[str]) -> list[str]:
    """What to show for each class: as inference.py does, or the names of the classes."""
    return load_labels(config.class_label_file, list(classes), config.model_num_classes)


def describe_calibration(calibration: Images, scored: Images, seed: int) -> dict[str, Any]:
    """What int8 was calibrated on; images that were scored as well make its figures too good."""
    among = {os.path.realpath(path) for path in scored.paths}
    return {
        "folder": os.path.basename(os.path.normpath(calibration.folder)),
        "images": len(calibration.levels),
        "seed": seed,
        "scored_too": sum(os.path.realpath(path) in among for path in calibration.paths),
    }
