# SPDX-License-Identifier: Apache-2.0
"""What config.model_weights_path names, ready to score: weights for a network, or an exported file."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch
from torch import nn

from core.exported_files import is_exported, read_description, refuse_exported, refuse_other_use
from core.network_weights import create_network, load_trained_network
from core.runtimes import ExportedNetwork

TaskNetwork = TypeVar("TaskNetwork", bound=nn.Module)


def find_device(config: ModuleType) -> str:
    """Where the network computes: exported files run on the CPU."""
    return "cpu" if is_exported(config.model_weights_path) else str(config.device)


def load_network(config: ModuleType) -> tuple[nn.Module, list[str] | None]:
    """The trained network, on the CPU, and the names of its classes if the file has them.

    Raises: FileNotFoundError, or ValueError if the file is damaged or says it is for other values than config.py has.
    """
    path = Path(config.model_weights_path)
    if not is_exported(path):
        network = create_network(config)
        return network, load_trained_network(network, config)
    description = read_description(path)
    refuse_other_use(description, config)
    return ExportedNetwork(path, description, torch.get_num_threads()), description["classes"]


def load_task_network(
    create: Callable[[ModuleType], TaskNetwork], config: ModuleType, device: torch.device
) -> tuple[TaskNetwork, list[str] | None]:
    """The network of a task's config.py with its trained weights, on the device, and as load_network() the class names.

    Raises: ValueError for an exported file; as load_trained_network().
    """
    refuse_exported(config)
    network = create(config)
    class_names = load_trained_network(network, config)
    return network.to(device).to(memory_format=torch.channels_last), class_names
