# SPDX-License-Identifier: Apache-2.0
"""Files that are not what test.py writes: each gets a line that names file, place and remedy."""

import json
import re
from pathlib import Path

import pytest
from prediction_files import predictions_of, write_predictions, write_test_json

from reporting.measurements import read_measurement
from reporting.predictions import read_predictions

HEADER = b"file,true_class,class_1,probability_1,class_2,probability_2\r\n"
ROW = b"a.png,cat,cat,0.900000,dog,0.100000\r\n"


def test_answers_are_read_with_their_classes_in_order(tmp_path: Path) -> None:
    predictions = predictions_of(tmp_path, "10: 2 0.6, x 0.4; 2: 2 0.9, 10 0.05")
    assert predictions.classes == ["2", "10", "x"]
    assert predictions.true.tolist() == [1, 0]
    assert predictions.predicted.tolist() == [[0, 2], [0, 1]]
    assert predictions.true_probabilities().tolist() == [0.0, 0.9]


def test_names_with_any_bytes_come_back(tmp_path: Path) -> None:
    names = ["\udcff\udc80.png", 'a "b", c.png', "new\nline.png"]
    write_predictions(tmp_path / "p.csv", [(name, "a", [("a", 1.0)]) for name in names])
    assert read_predictions(tmp_path / "p.csv").files == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "p.csv: its columns are not those"),
        (HEADER, "p.csv: no image in it"),
        (HEADER + ROW + ROW[:-8], "p.csv: its last line is cut off"),
        (HEADER + ROW + ROW[:12] + b"\n", "p.csv line 3: 3 columns instead of 6"),
        (HEADER + ROW + ROW.replace(b"0.9", b"high"), "p.csv line 3: 'high00000' is no probability"),
        (HEADER + ROW.replace(b"0.9", b"1.9"), "p.csv line 2: '1.900000' is no probability from 0 to 1"),
        (HEADER + ROW.replace(b"0.900000", b"nan"), "p.csv line 2: 'nan' is no probability"),
        (HEADER + ROW.replace(b"0.9", b"0.0"), "p.csv line 2: the likeliest class is not the first"),
        (HEADER.replace(b"true_class,", b"") + ROW, "p.csv: its columns are not those"),
        (b"date,price\n2026-01-01,3.5\n", "p.csv: its columns are not those"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\n", "p.csv: its columns are not those"),
        (HEADER + b'"a.png,cat,cat,1.0\n', "p.csv line 2: unexpected end of data"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(message)}.*run `python3 test.py` again") as caught:
        read_predictions(tmp_path / "p.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 3}, "of another run than predictions.csv beside it .3 images"),
        (
            {"predictions_sha256": "0" * 64, "acc1": 50.0},
            "of another run than .*4 images at 50.000 %, there 4 at 75.000 %",
        ),
        ({"images": "4"}, "its images is missing or cannot be"),
        ({"image_size": True}, "its image_size is missing"),
        ({"image_size": 10**9}, "its image_size is missing"),
        ({"apply_orientation": 1}, "its apply_orientation"),
        ({"weights": None}, "its weights is missing"),
        ({"weights_sha256": ["0"]}, "its weights_sha256"),
        ({"acc1": float("nan")}, "its acc1"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, values: dict, message: str) -> None:
    predictions = predictions_of(tmp_path, "a: a 1; a: a 1; a: a 1; a: b 1")
    rows = [("0.png", "a", [("a", 1.0)])] * 3 + [("3.png", "a", [("b", 1.0)])]
    write_test_json(tmp_path / "test.json", rows, **values)
    with pytest.raises(ValueError, match=f"test.json: {message}.*run `python3 test.py` again"):
        read_measurement(tmp_path / "test.json", predictions)


@pytest.mark.parametrize("content", ["", "[1]", "7", '{"images": 4', "[" * 100_000, json.dumps({"name": "package"})])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    predictions = predictions_of(tmp_path, "a: a 1")
    (tmp_path / "test.json").write_text(content)
    with pytest.raises(ValueError, match="test.json: .*run `python3 test.py` again"):
        read_measurement(tmp_path / "test.json", predictions)
