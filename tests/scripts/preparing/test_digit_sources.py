# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/digit_sources.py: digits.csv.gz when it is damaged, and MNIST's idx files."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from preparing_runs import assert_refused, call, images_of, make, make_source, pixels_of


@pytest.mark.parametrize("damage", ["cut", "line", "value"])
def test_damaged_digits_file_is_named(damage: str, tmp_path: Path) -> None:
    packed = (ROOT / "data" / "digits.csv.gz").read_bytes()
    text = gzip.decompress(packed)
    source = tmp_path / "digits.csv.gz"
    source.write_bytes(
        {
            "cut": packed[:-1000],
            "line": gzip.compress(text[: text.rindex(b"\n", 0, -1) + 1]),
            "value": gzip.compress(text.replace(b",16,", b",17,", 1)),
        }[damage]
    )
    assert_refused(call("digits", "--source", source, "--target", tmp_path / "new" / "Digits"), source)
    assert os.listdir(tmp_path) == [source.name]


def idx(array: np.ndarray) -> bytes:
    """The format of yann.lecun.com: type 8 is unsigned bytes, sizes are big-endian."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files(labels: tuple[list[int], list[int]] = ([5, 0, 4, 1, 9, 2, 3, 6, 7, 8], list(range(10)))) -> dict:
    """The four files of a small MNIST, and what must come of them."""
    random = np.random.default_rng(1)
    files, expected = {}, {}
    for split, prefix, numbers in zip(("train", "valid"), ("train", "t10k"), labels, strict=True):
        pixels = random.integers(0, 256, (len(numbers), 28, 28), dtype=np.uint8)
        files[f"{prefix}-images-idx3-ubyte"] = idx(pixels)
        files[f"{prefix}-labels-idx1-ubyte"] = idx(np.array(numbers, dtype=np.uint8))
        expected |= {f"{split}/{label}/{place:05d}.png": pixels[place] for place, label in enumerate(numbers)}
    return {"files": files, "expected": expected}


@pytest.mark.parametrize("kind", ["folder of .gz", "folder", "tar of .gz", "zip with dots"])
def test_mnist_idx_files_become_pictures(kind: str, tmp_path: Path) -> None:
    made = mnist_files()
    files = {f"MNIST/raw/{name}": data for name, data in made["files"].items()}
    if kind.endswith(".gz"):
        files = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    if kind.endswith("dots"):
        files = {name.replace("-idx", ".idx"): data for name, data in files.items()}
    source = make_source(kind.split()[0], tmp_path, files)
    output = make("mnist", "--source", source, "--target", tmp_path / "MNIST")
    found = pixels_of(images_of(tmp_path / "MNIST"), "L")
    assert found.keys() == made["expected"].keys()
    assert all(np.array_equal(found[name], pixels) for name, pixels in made["expected"].items())
    assert "note: 10 images in train, the published dataset has 60,000" in output


def bad_mnist(harm: str) -> dict[str, bytes]:
    files = mnist_files()["files"]
    images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    if harm == "missing":
        del files[labels]
    elif harm == "cut":
        files[images] = files[images][:-1]
    elif harm == "type":
        files[images] = files[images].replace(b"\0\0\x08", b"\0\0\x0d", 1)
    elif harm == "huge":
        files[images] = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 28, 28)
    elif harm == "size":
        files[images] = idx(np.zeros((10, 27, 28), np.uint8))
    elif harm == "count":
        files[labels] = idx(np.arange(9, dtype=np.uint8))
    elif harm == "label":
        files[labels] = idx(np.arange(1, 11, dtype=np.uint8))
    elif harm == "swapped":
        files[images], files[labels] = files[labels], files[images]
    elif harm == "gzip":
        files[labels] = gzip.compress(files[labels])[:-4]
    elif harm == "other-dataset":  # Fashion-MNIST has 1,000 of each class
        files["t10k-images-idx3-ubyte"] = idx(np.zeros((10_000, 28, 28), np.uint8))
        files["t10k-labels-idx1-ubyte"] = idx(np.arange(10_000, dtype=np.uint64).astype(np.uint8) % 10)
    return files


BAD_MNIST = ("missing", "cut", "type", "huge", "size", "count", "label", "swapped", "gzip", "other-dataset")


@pytest.mark.parametrize("harm", BAD_MNIST)
def test_mnist_that_is_damaged_or_another_is_refused(harm: str, tmp_path: Path) -> None:
    source = make_source("tar", tmp_path, bad_mnist(harm))
    assert_refused(call("mnist", "--source", source, "--target", tmp_path / "out" / "MNIST"), source)
    assert os.listdir(tmp_path) == [source.name]
