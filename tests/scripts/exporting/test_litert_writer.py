# SPDX-License-Identifier: Apache-2.0
"""exporting/litert_writer.py: the network, in LiteRT, and what the file says of itself to libraries of Android."""

import io
import json
import os
import shutil
import signal
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import export_requests
import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from conftest import ROOT
from export_requests import MEAN, STD, pictures, trained_network

from core.runtimes import open_network
from exporting import litert_writer
from exporting.litert_metadata import append_files, create_metadata
from exporting.requests import FLOAT_INPUT, LEVEL_INPUT, Choices, Request
from model import TENSORFLOW, TORCHVISION

needs_converter = pytest.mark.skipif(
    not (ROOT / ".venv-litert/bin/python").exists(), reason="needs .venv-litert; `make litert` sets it up"
)
LABELS = ["red fox", "Größe", "two\nlines", "crane", "crane"]


def request_for(case: str, folder: Path) -> Request:
    """Of the images that calibrate, the first is the most colourful by far."""
    choices, size, definition = CASES[case]
    request = export_requests.request_for(trained_network(definition), folder, *choices[:1], size, *choices[1:])
    takes_levels = choices.input == LEVEL_INPUT
    levels = pictures(24, size)
    levels[1:] = levels[1:] // 2 + 64
    description = {
        "format": "litert",
        "int8": choices.int8,
        "classes": ["n1", "n2", "n3", "n4", "n5"],
        "labels": LABELS,
        "input": {
            **{"name": "images", "layout": "NHWC" if takes_levels else "NCHW", "range": "of levels"},
            **{"type": "uint8" if takes_levels else "float32", "mean": MEAN, "std": STD},
            "normalised_inside": takes_levels,
        },
        "output": {"name": "probabilities" if choices.softmax else "logits"},
        "network": {"model_width_mult": 0.35, "model_padding": definition.padding},
    }
    return request._replace(calibration=levels, description=description)


class Written(NamedTuple):
    """A file and the request for it."""

    request: Request
    path: Path

    def compare(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of the file and of torch for all images, in batches of this size."""
        assert self.request.calibration is not None
        images = self.request.inputs(self.request.calibration)
        run = open_network(self.path, 1)
        found = np.concatenate([run(images[start : start + batch]) for start in range(0, len(images), batch)])
        with torch.inference_mode():
            return found, self.request.network(torch.from_numpy(images)).numpy()

    def graph(self) -> Any:
        return schema.ModelT.InitFromPackedBuf(self.path.read_bytes()).subgraphs[0]

    def kinds(self) -> Counter[int]:
        model = schema.ModelT.InitFromPackedBuf(self.path.read_bytes())
        return Counter(model.operatorCodes[part.opcodeIndex].builtinCode for part in model.subgraphs[0].operators)


CASES = {
    "float": (Choices("litert", "", LEVEL_INPUT, True, "1"), 64, TENSORFLOW),
    "int8": (Choices("litert", "post-training", LEVEL_INPUT, False, "dynamic"), 64, TENSORFLOW),
    "int8-float-input": (Choices("litert", "qat", FLOAT_INPUT, False, "1"), 33, TORCHVISION),
}


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """All files by one start of the converter, which takes seconds."""
    folder = tmp_path_factory.mktemp("litert")
    requests = {name: request_for(name, folder / name) for name in CASES}
    converted = {name: folder / f"{name}-converted" for name in CASES}
    for name, request in requests.items():
        converted[name].mkdir()
        litert_writer.hand_over(request, converted[name])
    litert_writer.run_converter(litert_writer.find_python(), *converted.values())
    files = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, request in requests.items():
            model = converted[name] / "network.tflite"
            patch.setattr(litert_writer, "run_converter", lambda python, into, model=model: shutil.copy(model, into))
            files[name] = Written(request, litert_writer.write(request))
    return files


@needs_converter
def test_float_file_computes_the_network(written: dict[str, Written]) -> None:
    found, expected = written["float"].compare(batch=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)  # of probabilities, whose logits are large
    assert np.abs(expected - expected[0]).max() > 0.01  # the images differ
    assert litert_writer.count_int8(written["float"].path) == (0, 0)


@needs_converter
def test_padding_is_in_the_convolutions_and_nothing_is_transposed(written: dict[str, Written]) -> None:
    """Table 2 of the paper: 35 convolutions, 17 depthwise ones, 10 sums; ReLU6 is part of them."""
    codes = schema.BuiltinOperator
    layers = {codes.CONV_2D: 35, codes.DEPTHWISE_CONV_2D: 17, codes.ADD: 10, codes.MEAN: 1, codes.FULLY_CONNECTED: 1}
    normalisation = {codes.CAST: 1, codes.MUL: 1, codes.SUB: 1}
    assert written["float"].kinds() == Counter(layers | normalisation | {codes.SOFTMAX: 1})
    assert written["int8"].kinds() == Counter(layers | normalisation | {codes.QUANTIZE: 1, codes.DEQUANTIZE: 1})
    kinds = (schema.Conv2DOptionsT, schema.DepthwiseConv2DOptionsT)
    options = [part.builtinOptions for part in written["float"].graph().operators]
    assert {part.padding for part in options if isinstance(part, kinds)} <= {schema.Padding.SAME, schema.Padding.VALID}
    strided = [part for part in options if isinstance(part, kinds) and part.strideH == 2]
    assert [part.padding for part in strided] == [schema.Padding.SAME] * 5


@needs_converter
@pytest.mark.parametrize("name", ["int8", "int8-float-input"])
def test_int8_file_computes_the_network_nearly(written: dict[str, Written], name: str) -> None:
    """Also for the image that alone reaches the ends of the ranges, and that averages over the images would forget."""
    found, expected = written[name].compare(batch=1)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)
    assert litert_writer.count_int8(written[name].path) == (52, 1)


@needs_converter
def test_dynamic_batch_is_one(written: dict[str, Written]) -> None:
    (first, second, third), _ = zip(*(written["int8"].compare(batch) for batch in (1, 3, 5)), strict=True)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    graph = written["int8"].graph()
    assert graph.tensors[graph.inputs[0]].shapeSignature.tolist() == [-1, 64, 64, 3]


@needs_converter
def test_file_is_for_others(written: dict[str, Written]) -> None:
    """Its weights lie where processors read them at once, and it tells of no machine."""
    for file in written.values():
        content = file.path.read_bytes()
        whole = np.frombuffer(content, np.uint8)
        model = schema.Model.GetRootAsModel(content)
        places = [model.Buffers(index).DataAsNumpy() for index in range(model.BuffersLength())]
        starts = [part.ctypes.data - whole.ctypes.data for part in places if isinstance(part, np.ndarray)]
        assert len(starts) > 100
        assert {start % 16 for start in starts} == {0}
        for word in (str(ROOT), "site-packages", "/tmp", "__main__"):
            assert word.encode() not in content
        graph = file.graph()
        assert graph.tensors[graph.inputs[0]].name == b"images"


class Table:
    """A flatbuffers table, read by the numbers of its fields in metadata_schema.fbs."""

    def __init__(self, content: bytes, place: int | None = None) -> None:
        start = flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0)
        self.table = flatbuffers.table.Table(bytearray(content), start if place is None else place)

    def offset(self, field: int) -> int:
        return self.table.Offset(4 + 2 * field)

    def text(self, field: int) -> str:
        return self.table.String(self.table.Pos + self.offset(field)).decode()

    def byte(self, field: int) -> int:
        return self.table.Get(flatbuffers.number_types.Uint8Flags, self.table.Pos + self.offset(field))

    def child(self, field: int) -> "Table":
        return Table(self.table.Bytes, self.table.Indirect(self.table.Pos + self.offset(field)))

    def children(self, field: int) -> list["Table"]:
        first = self.table.Vector(self.offset(field))
        count = self.table.VectorLen(self.offset(field))
        return [Table(self.table.Bytes, self.table.Indirect(first + 4 * index)) for index in range(count)]

    def floats(self, field: int) -> list[float]:
        first, count = self.table.Vector(self.offset(field)), self.table.VectorLen(self.offset(field))
        return np.frombuffer(self.table.Bytes, "<f4", count, first).tolist()


@pytest.mark.parametrize(
    ("name", "mean", "std", "least", "most"),
    [
        ("float", [0, 0, 0], [1, 1, 1], [0, 0, 0], [255, 255, 255]),  # normalised inside: nothing is left to do
        ("int8-float-input", [102, 127.5, 153], [51, 63.75, 76.5], [-2, -2, -2], [3, 2, 4 / 3]),
    ],
)
def test_metadata_say_what_to_do_with_levels(
    tmp_path: Path, name: str, mean: list[float], std: list[float], least: list[float], most: list[float]
) -> None:
    content = create_metadata(request_for(name, tmp_path).description)
    assert content[4:8] == b"M001"
    model = Table(content)
    assert [file.text(0) for file in model.children(6)] == ["description.json"]
    (graph,) = model.children(3)
    (image,), (output,) = graph.children(2), graph.children(3)
    assert (image.text(0), output.text(0)) == ("images", "probabilities" if name == "float" else "logits")
    assert (image.child(3).byte(0), image.child(3).child(1).byte(0)) == (2, 1)  # ImageProperties, RGB
    (unit,) = image.children(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    assert unit.child(1).floats(0) == pytest.approx(mean)
    assert unit.child(1).floats(1) == pytest.approx(std)
    assert image.child(5).floats(0) == pytest.approx(most)
    assert image.child(5).floats(1) == pytest.approx(least)
    (labels,) = output.children(6)
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def test_labels_stand_behind_the_file_a_line_for_each_class(tmp_path: Path) -> None:
    description = request_for("float", tmp_path).description
    content = append_files(b"model" * 100, description)
    assert content.startswith(b"model" * 100)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("labels.txt").decode().splitlines() == ["red fox", "Größe", "two lines", "crane", "crane"]
        assert json.loads(archive.read("description.json")) == description
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


@needs_converter
def test_metadata_are_in_the_file(written: dict[str, Written]) -> None:
    model = schema.ModelT.InitFromPackedBuf(written["int8"].path.read_bytes())
    (place,) = [entry.buffer for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    assert bytes(model.buffers[place].data) == create_metadata(written["int8"].request.description)
    assert zipfile.is_zipfile(written["int8"].path)


def converter_that(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A request for a program whose .venv-litert has a shell script for its Python."""
    python = folder / ".venv-litert/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(litert_writer, "REPOSITORY", folder)
    monkeypatch.setenv("TMPDIR", str(folder / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)  # which has looked at the variable before
    (folder / "temporary").mkdir()
    (folder / "export").mkdir()
    return request_for("float", folder / "export")


def test_missing_environment_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_writer, "REPOSITORY", tmp_path)
    with pytest.raises(ValueError, match=r"needs .venv-litert for its converter; `make litert` sets it up$"):
        litert_writer.check(request_for("float", tmp_path).choices)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo Traceback >&2; echo 'TypeError: no such layer' >&2; exit 1", "failed: TypeError: no such layer; `make"),
        ("kill -9 $$", "failed: signal 9 ended it; `make"),
        ("exit 3", "failed: status 3; `make"),
    ],
)
def test_failing_converter_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    request = converter_that(tmp_path, script, monkeypatch)
    with pytest.raises(ValueError, match=words) as error:
        litert_writer.write(request)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "temporary").iterdir()) == list((tmp_path / "export").iterdir()) == []


def test_interrupted_export_ends_its_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal to export.py alone, as kill sends it: a terminal would send it to both."""
    started = tmp_path / "started"
    request = converter_that(
        tmp_path, f"echo $$ > {started}.new; mv {started}.new {started}; exec sleep 600", monkeypatch
    )

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it would be ignored

    def interrupt() -> None:
        while not started.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            litert_writer.write(request)
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
    assert list((tmp_path / "temporary").iterdir()) == list((tmp_path / "export").iterdir()) == []
