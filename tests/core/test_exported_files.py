# SPDX-License-Identifier: Apache-2.0
"""What is read of exported files before a runtime gets them: damage, foreign files, hostile descriptions."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, config_with
from exported_networks import describe, description_of, write_onnx

from core.exported_files import is_exported, read_description, refuse_other_use

NOT_OURS = r"m\.json: not what scripts/export.py writes; export the weights again$"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An ONNX file with its description."""
    path = tmp_path / "m.onnx"
    write_onnx(path)
    describe(path, description_of("onnx"))
    return path


def test_kinds_of_files_are_told_by_their_names() -> None:
    assert all(is_exported(f"a.b/c{suffix}") for suffix in (".onnx", ".ONNX", ".xml", ".pte", ".tflite", ".mlpackage"))
    assert not any(is_exported(name) for name in ("a.onnx/b.pth", "best.pth.tar", "onnx", "a.safetensors"))


def test_whole_file_is_read(exported: Path) -> None:
    assert read_description(exported)["classes"] == ["red", "green", "blue"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-10],
    "empty": lambda data: b"",
    "one bit": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "a text": lambda data: b"hello\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_named(exported: Path, damage: str) -> None:
    exported.write_bytes(DAMAGES[damage](exported.read_bytes()))
    with pytest.raises(ValueError, match=r"m\.onnx: damaged or changed since scripts/export.py verified it; copy it"):
        read_description(exported)


def test_what_is_missing_is_named(exported: Path) -> None:
    data = exported.read_bytes()
    exported.unlink()
    with pytest.raises(FileNotFoundError, match=r"m\.onnx: no such file"):
        read_description(exported)
    exported.mkdir()
    with pytest.raises(ValueError, match=r"m\.onnx: m\.onnx, which belongs to it, is no file beside it"):
        read_description(exported)
    exported.rmdir()
    exported.write_bytes(data)
    exported.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"m\.onnx: m\.json is not beside it"):
        read_description(exported)


@pytest.mark.parametrize(("name", "task"), [("ssdlite", "detection"), ("deeplab_v3", "segmentation")])
def test_files_of_another_task_are_named(exported: Path, name: str, task: str) -> None:
    """Their descriptions lack what a classifier's have, and are sound."""
    network = {"model_arch_name": name}
    exported.with_suffix(".json").write_text(json.dumps({"format": "onnx", "network": network, "files": {}}))
    with pytest.raises(
        ValueError, match=rf"m\.onnx: exported from {task}, and this is a classifier; name another file$"
    ):
        read_description(exported)


@pytest.mark.parametrize(
    "names",
    [
        *(["other.onnx"], ["../m.onnx"], ["/m.onnx"], ["m.onnx", "../../etc/passwd"], ["m.onnx", "/etc/passwd"]),
        *([], ["m.onnx", "m.data"], ["m.onnx/../m.onnx"], ["m.onnx\0"], ["m.bin"]),
    ],
)
def test_description_of_other_files_is_refused(exported: Path, names: list[str]) -> None:
    described = exported.with_suffix(".json")
    described.write_text(json.dumps(description_of("onnx", files=dict.fromkeys(names, "0" * 64))))
    with pytest.raises(
        ValueError,
        match=r"m\.onnx: m\.json beside it is of files with other names; give them the names that export\.py gave, or ",
    ):
        read_description(exported)


def test_weights_of_an_openvino_file_belong_to_it(tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    path.write_text("<?xml version='1.0'?>")
    path.with_suffix(".bin").write_bytes(bytes(8))
    describe(path, description_of("openvino"))
    read_description(path)
    path.with_suffix(".bin").write_bytes(bytes(9))
    with pytest.raises(ValueError, match=r"m\.bin: damaged or changed"):
        read_description(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ValueError, match=r"m\.xml: m\.bin, which belongs to it, is no file beside it; copy all files"):
        read_description(path)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "3", '"format"', "[" * 100_000, '{"format": "onnx"}', '{"files": {}}'),
        *("\udcff", '{"format": ' + "9" * 5000 + "}", " " * 2**24 + "{}"),
    ],
    ids=range(12),
)
def test_other_json_is_refused(exported: Path, content: str) -> None:
    exported.with_suffix(".json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=NOT_OURS):
        read_description(exported)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in dictionaries and lists."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


HOSTILE = (
    *(None, True, -1, 0, 10**400, 1e308, math.nan, math.inf, -math.inf, "", "x", "../x", [], {}, [[]], [1], {"a": 1}),
    *(["a", 1], [0.5] * 4, [math.nan] * 3, "abc", ["abc"] * 1000),
)


def test_every_value_may_be_hostile(exported: Path) -> None:
    """Each in the place of each: refused in words for users, or of no effect."""
    whole = json.loads(exported.with_suffix(".json").read_text())
    config = config_with(device="cpu", model_weights_path=str(exported), model_num_classes=3, model_width_mult=0.35)
    config.__file__ = str(ROOT / "config.py")
    refused = 0
    for path in list(places(whole))[1:]:
        for value in HOSTILE:
            description = copy.deepcopy(whole)
            place = description
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            exported.with_suffix(".json").write_text(json.dumps(description))
            try:
                refuse_other_use(read_description(exported), config)
            except ValueError as error:
                assert str(error).count("\n") == 0 and str(exported.with_suffix("")) in str(error)
                refused += 1
    assert refused > 300


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        *(("model_num_classes", 4, 34), ("image_size", 64, 26), ("model_width_mult", 1.0, 30)),
        *(("model_mean_parameters", [0.5] * 3, 31), ("model_std_parameters", [0.5] * 3, 32)),
        *(("apply_orientation", True, 99), ("model_padding", "same", 104), ("model_batch_norm_eps", 1e-3, 105)),
        ("compile_model", True, 24),
    ],
)
def test_values_that_a_file_contradicts_are_named(exported: Path, name: str, value: object, line: int) -> None:
    right = {"model_num_classes": 3, "model_width_mult": 0.35, "model_weights_path": str(exported)}
    config = config_with(__file__=str(ROOT / "config.py"), **right)
    description = read_description(exported)
    refuse_other_use(description, config)
    setattr(config, name, value)
    with pytest.raises(ValueError, match=rf"m\.onnx: exported with {name} = .*; set config.py line {line} to it$"):
        refuse_other_use(description, config)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "tf32"])
def test_precision_is_that_of_the_file(exported: Path, precision: str) -> None:
    config = config_with(model_num_classes=3, model_width_mult=0.35, model_weights_path=str(exported))
    config.__file__ = str(ROOT / "config.py")
    config.precision = precision
    with pytest.raises(ValueError, match=rf'^config.py line 22: precision = "{precision}", and .*; set it to "auto"$'):
        refuse_other_use(read_description(exported), config)
