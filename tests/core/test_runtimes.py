# SPDX-License-Identifier: Apache-2.0
"""Exported files in their runtimes: what they compute, with how many threads, what they print, what they refuse."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from exported_networks import SIZE, SUFFIXES, WRITERS, describe, description_of, write_graph
from onnx import TensorProto, helper
from tflite_models import TfliteModel

from core import runtimes, trials
from core.runtimes import ExportedNetwork, open_network
from core.trials import survives

FORMATS = sorted(WRITERS)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each format that computes the mean of each channel, and its description: read, do not change."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / name / f"m{SUFFIXES[name]}" for name in FORMATS}
    for name, path in paths.items():
        path.parent.mkdir()
        WRITERS[name](path)
        describe(path, description_of(name))
    return paths


def images_for(file_format: str, count: int) -> np.ndarray:
    levels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return levels if file_format == "litert" else np.float32(levels).transpose(0, 3, 1, 2).copy()


def means(images: np.ndarray) -> np.ndarray:
    axes = (1, 2) if images.dtype == np.uint8 else (2, 3)
    return images.mean(axes, dtype=np.float64)


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("file_format", FORMATS)
def test_batches_of_any_size(files: dict[str, Path], file_format: str, count: int) -> None:
    """The ExecuTorch file has room for 4, the LiteRT file for one."""
    network = ExportedNetwork(files[file_format], description_of(file_format), 1)
    images = images_for(file_format, count)
    found = network(torch.from_numpy(images))
    np.testing.assert_allclose(found, means(images), rtol=1e-5)
    again = network(torch.from_numpy(np.zeros_like(images)))
    assert not again.any()
    np.testing.assert_allclose(found, means(images), rtol=1e-5)  # no view of what the runtime uses again


def test_channels_last_images_are_not_misread(files: dict[str, Path]) -> None:
    images = images_for("onnx", 2)
    strided = torch.from_numpy(images).to(memory_format=torch.channels_last)
    for file_format in ("onnx", "openvino", "executorch"):
        found = ExportedNetwork(files[file_format], description_of(file_format), 1)(strided)
        np.testing.assert_allclose(found, means(images), rtol=1e-5)


def test_probabilities_become_logits_that_softmax_makes_them_of(files: dict[str, Path]) -> None:
    given = {"output": {"name": "probabilities", "type": "float32"}}
    network = ExportedNetwork(files["onnx"], description_of("onnx", **given), 1)
    shares = np.float32([0.7, 0.3, 0.0]).reshape(1, 3, 1, 1)
    logits = network(torch.from_numpy(np.broadcast_to(shares, (1, 3, SIZE, SIZE)).copy()))
    assert logits.isfinite().all()
    np.testing.assert_allclose(logits.softmax(1), shares.reshape(1, 3), atol=1e-6)


RUN_ONE = """
import os, signal, sys
import torch
from pathlib import Path
from core.exported_files import read_description
from core.runtimes import ExportedNetwork
path = Path(sys.argv[1])
signals = []
signal.signal(signal.SIGUSR1, lambda number, _: signals.append(number))
networks = [ExportedNetwork(path, read_description(path), 1) for _ in range(3)]
images = torch.ones(2, 32, 32, 3, dtype=torch.uint8) if networks[0].takes_levels else torch.ones(2, 3, 32, 32)
assert networks[0](images).tolist() == [[1, 1, 1]] * 2
while networks:
    del networks[0]
os.kill(os.getpid(), signal.SIGUSR1)
assert signals == [signal.SIGUSR1]
print(*sorted(name.partition(".")[0] for name in sys.modules), sep="\\n")
"""


@pytest.mark.parametrize("file_format", FORMATS)
def test_runtimes_leave_the_process_and_its_home_as_they_were(
    files: dict[str, Path], file_format: str, tmp_path: Path
) -> None:
    """ONNX Runtime and OpenVINO would make files there for their telemetry, and print.

    OpenVINO gives the thread another stack for signals, and may leave it one in memory that it has freed.
    """
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", RUN_ONE, str(files[file_format])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    others = {"onnxruntime", "openvino", "executorch", "ai_edge_litert"} - {runtimes.RUNTIMES[file_format][0]}
    assert not set(done.stdout.split()) & (others | {"torchao"})
    assert "torch._dynamo" not in done.stdout


@pytest.mark.parametrize("file_format", FORMATS)
def test_missing_runtime_is_one_line(files: dict[str, Path], file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, name, _ = runtimes.RUNTIMES[file_format]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"running it needs {name}; `.*requirements-export.txt` installs it$"):
        ExportedNetwork(files[file_format], description_of(file_format), 1)


def test_core_ml_files_run_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"runs on devices of Apple alone; name an .onnx export of the same weights$"):
        open_network(tmp_path / "m.mlpackage", 1)


OTHER_SHAPES: dict[str, dict[str, Any]] = {
    "more classes": {"classes": list("abcd"), "labels": list("abcd")},
    "another size": {"image_size": 64},
    "another type": {"type": "uint8"},
}


@pytest.mark.parametrize("other", OTHER_SHAPES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_files_that_take_or_give_something_else_are_refused(
    files: dict[str, Path], file_format: str, other: str
) -> None:
    description = description_of(file_format)
    changes = OTHER_SHAPES[other]
    if other == "another type" and file_format == "litert":
        changes = {"type": "float32"}
    for part in (description, description["input"]):
        part |= {name: value for name, value in changes.items() if name in part}
    with pytest.raises(
        ValueError, match=r"m\.\w+: (gives torch.float32 \[1, 3\] for 1 image,|.* cannot run it: )"
    ) as error:
        ExportedNetwork(files[file_format], description, 1)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("file_format", FORMATS)
def test_other_content_is_refused(files: dict[str, Path], file_format: str, tmp_path: Path) -> None:
    """That of the other formats under its name, a text, nothing, half of a file."""
    path = tmp_path / files[file_format].name
    path.with_suffix(".bin").write_bytes(bytes(100))
    contents = [file.read_bytes() for name, file in files.items() if name != file_format]
    whole = files[file_format].read_bytes()
    half = whole[: len(whole) // 2]
    for content in (*contents, b"hello\n", b"", half):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.\w+: \w+.* cannot read it: .*; export the weights again$"):
            open_network(path, 1)


def test_onnx_files_cannot_name_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime alone would read weights from a file in the working folder, though it was given bytes."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.onnx"
    np.int64([2, 3]).tofile(tmp_path / "weights")
    mean = helper.make_node("ReduceMean", ["images", "axes"], ["logits"], keepdims=0)
    for place in ("weights", str(tmp_path / "weights"), f"../{tmp_path.name}/weights", "/dev/zero"):
        axes = TensorProto(name="axes", data_type=7, dims=[2], data_location=TensorProto.EXTERNAL)
        axes.external_data.add(key="location", value=place)
        write_graph(path, mean, [axes])
        with pytest.raises(ValueError, match="ONNX Runtime cannot read it: .*[Ee]xternal"):
            open_network(path, 1)


def test_onnx_files_cannot_ask_for_code(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_graph(path, helper.make_node("PyOp", ["images"], ["logits"], domain="ai.onnx.contrib"), [], "ai.onnx.contrib")
    with pytest.raises(ValueError, match="ai.onnx.contrib:PyOp.* is not a registered function/op"):
        open_network(path, 1)
    node = helper.make_node(
        "EPContext", ["images"], ["logits"], domain="com.microsoft", ep_cache_context="other.so", embed_mode=0
    )
    write_graph(path, node, [], "com.microsoft")
    with pytest.raises(ValueError, match="EPContext node"):
        open_network(path, 1)


def test_openvino_files_cannot_ask_for_extensions(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    path.with_suffix(".bin").write_bytes(files["openvino"].with_suffix(".bin").read_bytes())
    text = files["openvino"].read_text()
    path.write_text(text.replace('version="opset1"', 'version="extension"', 1))
    with pytest.raises(ValueError, match="OpenVINO cannot read it"):
        open_network(path, 1)
    path.write_text(text)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ValueError, match="OpenVINO cannot read it"):
        open_network(path, 1)


def test_executorch_files_cannot_ask_for_other_backends(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "m.pte"
    path.write_bytes(files["executorch"].read_bytes() + b"OpenvinoBackend\0")
    with pytest.raises(ValueError, match="ExecuTorch cannot read it: it asks for OpenvinoBackend"):
        open_network(path, 1)


def test_litert_files_cannot_ask_for_operations_of_others(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    model = TfliteModel([1, SIZE, SIZE, 3], "uint8")
    model.add("CUSTOM", [0], model.add_tensor([1, 3]))
    model.model.operatorCodes[0].customCode = "FlexSoftmax"
    path.write_bytes(model.content())
    with pytest.raises(
        ValueError, match="LiteRT cannot read it: .*FlexSoftmax|LiteRT cannot read it: .*Select TensorFlow op"
    ):
        open_network(path, 1)


DEATHS: dict[str, Callable[[], Any]] = {
    "aborts": os.abort,
    "leaves": lambda: os._exit(3),
    "hangs": lambda: __import__("threading").Event().wait(),
}


@pytest.mark.parametrize("death", DEATHS)
def test_files_that_end_the_process_are_refused(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    monkeypatch.setitem(runtimes.RUNTIMES, "litert", ("ai_edge_litert", "LiteRT", lambda *_: DEATHS[death]()))
    monkeypatch.setattr(trials, "LONGEST_SECONDS", 0.5)
    with pytest.raises(ValueError, match=r"m\.tflite: LiteRT breaks off when it reads it; export the weights again$"):
        ExportedNetwork(files["litert"], description_of("litert"), 1)


def test_trials_tell_what_returns() -> None:
    assert survives(len, "abc")
    assert not survives(os._exit, 1)
