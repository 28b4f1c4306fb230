# SPDX-License-Identifier: Apache-2.0
"""ONNX files of the networks of other tasks than classifying, in float: pixels as they are in, answers out."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from core.exported_files import refuse_exported
from core.network_weights import load_trained_network
from core.runtimes import first_line, open_session, quiet, stop_telemetry
from core.settings import Rules, check_config
from exporting.descriptions import describe_making
from exporting.formats import one_line_errors, require
from exporting.onnx_writer import describe, save, trace
from exporting.publication import hash_files, publish, unnamed_folder
from exporting.silence import silence
from utils import setup_runtime

FORMAT = "onnx"
Network = TypeVar("Network", bound=nn.Module)
BATCH = 8  # pictures that a file is tried on at once
Answer = Callable[[np.ndarray], list[Tensor]]  # uint8 levels [N, H, W, 3] -> what the file gives


class Exported(NamedTuple):
    """What is to be written."""

    network: nn.Module  # of plain layers; uint8 levels [N, H, W, 3] -> what is called `traced`
    example: Tensor  # levels that it takes
    free_axes: dict[int, str]  # those of the levels that may have any length
    traced: list[str]
    finish: Callable[[Any], None]  # adds to the onnx.ModelProto what no layer of torch becomes
    input: dict[str, Any]  # what the description says of the levels beside what all files take
    outputs: dict[str, Any]  # what it says of each output of the file, in their order
    classes: list[str]  # by the numbers that the file gives


def load_for_export(
    create_network: Callable[[ModuleType], Network], config: ModuleType, rules: Rules
) -> tuple[Network, list[str] | None]:
    """The network of a task's config.py with its trained weights, on the CPU, and the names of its classes.

    Prints what was loaded. Raises: ValueError for what cannot be exported or is not for these values; as
    load_trained_network().
    """
    require(FORMAT)
    check_config(config, rules=rules)
    refuse_exported(config)
    setup_runtime(config.seed, "cpu")
    network = create_network(config)
    names = load_trained_network(network, config)
    print(f"Load `{config.model_arch_name}` model weights `{Path(config.model_weights_path).resolve()}` successfully.")
    return network, names


def export_task(config: ModuleType, exported: Exported, verify: Callable[[Answer], dict[str, Any]]) -> dict[str, Any]:
    """Write results/<exp_name>/export/<model_arch_name>-onnx.onnx and .json, both or none. Returns the figures.

    `verify`: gives the figures of the file as ONNX Runtime computes it. Raises: ValueError if it refuses the file.
    """
    target, name = Path("results", config.exp_name, "export"), f"{config.model_arch_name}-{FORMAT}"
    description = describe_task(config, exported)
    with unnamed_folder(target, name) as partial:
        path = partial / f"{name}.onnx"
        with one_line_errors(name), silence():
            model = trace(exported.network, exported.example, exported.traced, exported.free_axes)
            exported.finish(model)
            describe(model, description)
            save(model, path)
        files = hash_files(partial)
        figures = verify(open_answers(path))
        publish(partial, target, name, description | {"files": files, "verified": figures})
    print(f"{target / path.name}: {(target / path.name).stat().st_size / 1e6:.2f} MB")
    return figures


def in_batches(dataset: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All images and targets that dataset[0, index] gives, stacked: BATCH at a time, and the last alone."""
    bounds = [*range(0, len(dataset) - 1, BATCH), len(dataset) - 1, len(dataset)]
    for first, end in itertools.pairwise(bounds):
        images, targets = zip(*(dataset[0, index] for index in range(first, end)), strict=True)
        yield np.stack(images), np.stack(targets)


def describe_task(config: ModuleType, exported: Exported) -> dict[str, Any]:
    """What the file says of itself, in the words of descriptions.describe()."""
    return {
        "format": FORMAT,
        "int8": "",
        "classes": exported.classes,
        "input": {
            **{"name": "images", "layout": "NHWC", "type": "uint8", "channels": "RGB", "range": "levels 0 to 255"},
            "mean": list(config.model_mean_parameters),
            "std": list(config.model_std_parameters),
            "normalised_inside": True,
            "image_size": config.image_size,
        }
        | exported.input,
        "outputs": exported.outputs,
        "batch": "dynamic",
    } | describe_making(config, FORMAT, Path(config.model_weights_path))


def open_answers(path: Path) -> Answer:
    """What runs a file in ONNX Runtime. Raises: ValueError if that refuses it; also when it runs."""
    stop_telemetry()
    try:
        with quiet():
            session = open_session(path, torch.get_num_threads())
    except Exception as error:  # of any kind, as in core/runtimes.py
        raise ValueError(f"{path.name}: ONNX Runtime cannot read it: {first_line(error)}; refused") from error

    def answer(levels: np.ndarray) -> list[Tensor]:
        try:
            return [torch.from_numpy(output) for output in session.run(None, {"images": levels})]
        except Exception as error:
            raise ValueError(f"{path.name}: ONNX Runtime cannot run it: {first_line(error)}; refused") from error

    return answer
