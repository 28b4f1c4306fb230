# SPDX-License-Identifier: Apache-2.0
"""The arrays of an HDF5 file that can be hostile or damaged, read in a process of its own."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from converting.format_files import require_package
from converting.graph_builder import reason_of

ATTRIBUTES_KEY = "/"  # of hdf5_reader.py, whose library need not be there

READER = Path(__file__).with_name("hdf5_reader.py")
TIMEOUT_SECONDS = 60  # whole networks take less than one; a damaged file can make the library go round in circles


class Contents(NamedTuple):
    """What is in an HDF5 file."""

    arrays: dict[str, Tensor]  # by their paths
    attributes: dict[str, dict[str, list[str]]]  # of the groups, by their paths, "" for the file


def read_hdf5(content: bytes, path: Path) -> Contents:
    """Read the bytes of an HDF5 file, executing nothing and opening no other file.

    `path`: for messages. Raises: ValueError naming the file.
    """
    require_package("h5py", path, "HDF5, as Keras writes,")
    try:
        done = subprocess.run(
            [sys.executable, READER], input=content, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{path}: damaged: its HDF5 cannot be read to an end; get it again") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if done.returncode == 2 and said else "the library that reads HDF5 crashed"
        raise ValueError(
            f"{path}: damaged or not as Keras writes ({reason_of(ValueError(reason))}); get or save it again"
        )
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    attributes: dict[str, Any] = json.loads(arrays.pop(ATTRIBUTES_KEY).tobytes())
    return Contents({name: torch.from_numpy(array) for name, array in arrays.items()}, attributes)
