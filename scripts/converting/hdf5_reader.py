# SPDX-License-Identifier: Apache-2.0
"""A program of its own: HDF5 on standard input to arrays in .npz on standard output, nothing in it executed.

The library that reads HDF5 can crash or never end at a damaged file. Here that ends this process alone; hdf5_files.py
starts it, and says in one line what happened. It reads what Keras writes: groups, and arrays of numbers that lie in the
file itself; no links to other places.
"""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

ATTRIBUTES = ("model_config", "layer_names", "weight_names", "keras_version")
ATTRIBUTES_KEY = "/"  # no path of an array
SKIPPED = ("optimizer_weights", "optimizer")  # at the top: the state of a training program
MOST_OBJECTS, MOST_NESTING = 100_000, 50
MOST_EXPANSION = 20  # how many times as many bytes as the file an array may take, if it is compressed


def main() -> None:
    limit_memory()
    content = sys.stdin.buffer.read()
    with h5py.File(io.BytesIO(content), "r") as file:
        arrays, attributes = read_tree(file, MOST_EXPANSION * len(content))
    arrays[ATTRIBUTES_KEY] = np.frombuffer(json.dumps(attributes).encode(), np.uint8)
    np.savez(sys.stdout.buffer, allow_pickle=False, **arrays)


def limit_memory() -> None:
    """Let a file that asks for more than any of these networks needs fail at once."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))


def read_tree(file: h5py.File, most_bytes: int) -> tuple[dict[str, Any], dict[str, dict[str, list[str]]]]:
    """The arrays of a file by their paths, and the attributes that tell what they are. Raises: ValueError."""
    arrays: dict[str, Any] = {}
    attributes = {"": read_attributes(file)}
    for path, item in items_in(file, "", set()):
        if isinstance(item, h5py.Dataset):
            most_bytes -= item.nbytes
            if most_bytes < 0:
                raise ValueError(f"{path[-60:]!r} claims {item.nbytes:,} bytes, more than such a file can hold")
            arrays[path] = read_array(path, item)
        elif found := read_attributes(item):
            attributes[path] = found
    return arrays, attributes


def items_in(group: h5py.Group, start: str, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """The groups and arrays in a group, at any depth, with their paths. Raises: ValueError for links."""
    for name in group:
        path = f"{start}/{name}".removeprefix("/")
        if path in SKIPPED:
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path[-60:]!r} is a link to another place, which is not followed")
        item = group[name]
        place = h5py.h5o.get_info(item.id).addr
        if place in seen or path.count("/") > MOST_NESTING or len(seen) > MOST_OBJECTS:
            raise ValueError(f"{path[-60:]!r} is there twice, nested too deep or one of too many")
        seen.add(place)
        yield path, item
        if isinstance(item, h5py.Group):
            yield from items_in(item, path, seen)


def read_array(path: str, dataset: h5py.Dataset) -> Any:
    """The numbers of a dataset. Raises: ValueError for other values, and for those that lie in other files."""
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{path[-60:]!r} has its values in another file, which is not opened")
    if dataset.dtype.kind not in "fiub":
        raise ValueError(f"{path[-60:]!r} holds no numbers")
    return dataset[()]


def read_attributes(item: h5py.Group) -> dict[str, list[str]]:
    """The attributes that Keras describes a group with, as texts; long lists of names are in several, name0, name1."""
    found: dict[str, list[str]] = {}
    for name in ATTRIBUTES:
        parts = (
            [name]
            if name in item.attrs
            else [part for n in range(len(item.attrs)) if (part := f"{name}{n}") in item.attrs]
        )
        values = [value for part in parts for value in np.atleast_1d(item.attrs[part]).ravel().tolist()]
        if parts:
            found[name] = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    return found


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # a damaged file can raise almost anything
        print((str(error).strip() or type(error).__name__).splitlines()[0], file=sys.stderr)
        sys.exit(2)
