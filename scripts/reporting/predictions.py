# SPDX-License-Identifier: Apache-2.0
"""predictions.csv, which test.py writes: the likeliest classes of every image."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.plurals import counted

FIRST_COLUMNS = ["file", "true_class"]
MOST_CLASSES = 5  # of an image
AGAIN = "run `python3 test.py` again"


@dataclass(frozen=True)
class Predictions:
    """The answers for N images, K <= 5 of them each; classes are indices into `classes`."""

    files: list[str]  # with surrogates for bytes that are no UTF-8
    classes: list[str]  # all that are named, numbers in their order, then text
    true: np.ndarray  # int64 [N]
    predicted: np.ndarray  # int64 [N, K], likeliest first
    probabilities: np.ndarray  # float64 [N, K]

    def hits(self) -> np.ndarray:
        """Whether the likeliest class is the true one, bool [N]."""
        is_hit: np.ndarray = self.predicted[:, 0] == self.true
        return is_hit

    def true_probabilities(self) -> np.ndarray:
        """What the true class got, float64 [N]; 0 where it is not among the K best."""
        given: np.ndarray = np.where(self.predicted == self.true[:, None], self.probabilities, 0.0).sum(axis=1)
        return given


def read_predictions(path: Path) -> Predictions:
    """Read and check the whole file.

    Raises: FileNotFoundError, or ValueError with the line that is wrong and what to do.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; run `python3 test.py` first, which writes it")
    files: list[str] = []
    numbers: dict[str, int] = {}  # of the classes, as they come
    true: list[int] = []
    predicted: list[list[int]] = []
    probabilities: list[list[float]] = []
    for file, true_class, classes, shares in read_rows(path):
        files.append(file)
        true.append(numbers.setdefault(true_class, len(numbers)))
        predicted.append([numbers.setdefault(name, len(numbers)) for name in classes])
        probabilities.append(shares)
    if not files:
        raise ValueError(f"{path}: no image in it; {AGAIN}")
    names = sorted(numbers, key=name_order)
    places = np.zeros(len(names), dtype=np.int64)
    places[[numbers[name] for name in names]] = np.arange(len(names))
    return Predictions(files, names, places[true], places[np.array(predicted)], np.array(probabilities))


def name_order(name: str) -> tuple[bool, int, str]:
    """Sorts 2 before 10, and both before text."""
    is_number = name.isascii() and name.isdecimal() and len(name) < 10
    return not is_number, int(name) if is_number else 0, name


Row = tuple[str, str, list[str], list[float]]  # file, true class, predicted classes, their probabilities


def read_rows(path: Path) -> Iterator[Row]:
    """The checked rows. Raises: ValueError."""
    refuse_cut_off(path)
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            count = count_classes(header)
            if count == 0:
                raise ValueError(f"its columns are not those that test.py writes; {AGAIN}")
            for row in reader:
                yield parse_row(row, count)
        except (ValueError, csv.Error) as error:
            place = f" line {reader.line_num}" if reader.line_num > 1 else ""
            remedy = f"; {AGAIN}" if isinstance(error, csv.Error) else ""
            raise ValueError(f"{path}{place}: {error}{remedy}") from None


def refuse_cut_off(path: Path) -> None:
    """Raise ValueError if the last line has no end: even a number that looks whole may lack digits."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        if size and file.read(1) != b"\n":
            raise ValueError(f"{path}: its last line is cut off; {AGAIN}")


def count_classes(header: list[str]) -> int:
    """How many classes each row has; 0 if these are not the columns that test.py writes."""
    count = (len(header) - len(FIRST_COLUMNS)) // 2
    expected = FIRST_COLUMNS + [f"{name}_{k + 1}" for k in range(count) for name in ("class", "probability")]
    return count if header == expected and count <= MOST_CLASSES else 0


def parse_row(row: list[str], count: int) -> Row:
    """One image. Raises: ValueError that says what is wrong, and what to do."""
    if len(row) != len(FIRST_COLUMNS) + 2 * count:
        raise ValueError(f"{counted(len(row), 'column')} instead of {len(FIRST_COLUMNS) + 2 * count}; {AGAIN}")
    shares = [parse_probability(text) for text in row[3::2]]
    if shares != sorted(shares, reverse=True):
        raise ValueError(f"the likeliest class is not the first; {AGAIN}")
    return row[0], row[1], row[2::2], shares


def parse_probability(text: str) -> float:
    """A number from 0 to 1. Raises: ValueError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # as no NaN is
        raise ValueError(f"{text[:40]!r} is no probability from 0 to 1; {AGAIN}")
    return value
