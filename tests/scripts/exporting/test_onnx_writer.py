# SPDX-License-Identifier: Apache-2.0
"""exporting/onnx_writer.py: what ONNX Runtime and onnx say of the files."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_requests import DESCRIPTION, normalised, pictures, request_for, trained_network, unequal
from onnx import numpy_helper
from torch import nn

from exporting.onnx_writer import count_int8, write
from exporting.requests import LEVEL_INPUT, POST_TRAINING
from model import TENSORFLOW, TORCHVISION


def run(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.fixture(scope="session")
def int8_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(request_for(trained_network(TENSORFLOW), tmp_path_factory.mktemp("int8"), "onnx", int8=POST_TRAINING))


@pytest.mark.parametrize(
    ("definition", "size", "options"),
    [
        (TORCHVISION, 64, {}),
        (TENSORFLOW, 64, {"softmax": True, "input": LEVEL_INPUT}),
        (TENSORFLOW, 75, {"batch": "1"}),  # odd and even sides within
    ],
    ids=["torchvision", "tensorflow levels softmax", "tensorflow odd batch 1"],
)
@torch.no_grad()
def test_float_file_computes_the_network(definition: object, size: int, options: dict, tmp_path: Path) -> None:
    network = trained_network(definition)
    path = write(request_for(network, tmp_path, "onnx", size, **options))
    assert list(tmp_path.iterdir()) == [path]
    levels = pictures(3, size, seed=1)
    expected = network(normalised(levels))
    given = levels if "input" in options else normalised(levels).numpy()
    if options.get("batch") == "1":
        found = np.concatenate([run(path, image[None]) for image in given])
    else:
        found = run(path, given)
    expected = expected.softmax(1) if "softmax" in options else expected
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.abs().max())
    (taken,), (made,) = onnx.load(path).graph.input, onnx.load(path).graph.output
    assert (taken.name, made.name) == ("images", "probabilities" if "softmax" in options else "logits")
    assert bool(taken.type.tensor_type.shape.dim[0].dim_param) is (options.get("batch") != "1")


def test_padding_of_tensorflow_is_in_the_convolutions(int8_file: Path) -> None:
    """TensorFlow's SAME for 3 x 3 and stride 2 at even sides: a row below, a column to the right."""
    nodes = onnx.load(int8_file).graph.node
    assert "Pad" not in {node.op_type for node in nodes}
    convolutions = [{item.name: list(item.ints) for item in node.attribute} for node in nodes if node.op_type == "Conv"]
    strided = [attributes["pads"] for attributes in convolutions if attributes["strides"] == [2, 2]]
    assert strided == [[0, 0, 1, 1]] * 5


def test_file_says_what_it_is_and_not_where_it_was_made(int8_file: Path) -> None:
    model = onnx.load(int8_file)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["format"] == "any"
    assert json.loads(said["classes"]) == DESCRIPTION["classes"]
    assert json.loads(said["input"]) == DESCRIPTION["input"]
    content = int8_file.read_bytes()
    for word in (b".py", b"site-packages", b"/tmp", str(Path.cwd()).encode()):
        assert word not in content
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_every_layer_is_in_int8(int8_file: Path, tmp_path: Path) -> None:
    """52 convolutions, 1 linear layer (Table 2 of the paper); no ReLU6 is left, and nothing else is beside the file."""
    assert count_int8(int8_file) == (52, 1)
    assert list(int8_file.parent.iterdir()) == [int8_file]
    kinds = Counter(node.op_type for node in onnx.load(int8_file).graph.node)
    assert kinds["Clip"] == kinds["Relu"] == 0
    onnx.checker.check_model(onnx.load(int8_file), full_check=True)
    model = onnx.load(int8_file)
    stem = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(node for node in model.graph.node if node.output[0] == stem.input[1])
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}[weight.input[1]]
    assert scales.shape == (16,)  # one for each channel
    stem.input[1] = weight.input[0]
    onnx.save(model, tmp_path / "one_less.onnx")
    assert count_int8(tmp_path / "one_less.onnx") == (51, 1)


def test_no_two_products_overflow_16_bits(int8_file: Path) -> None:
    """What a processor without VNNI adds in 16 bits (Intel's reference of VPMADDUBSW) is never cut off.

    Of every kernel but the depthwise ones, neighbouring inputs, with the largest value of uint8.
    """
    model = onnx.load(int8_file)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    weights = [values[makers[node.input[1]].input[0]] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    full = [weight.reshape(len(weight), -1).astype(int) for weight in weights if weight[0].size != 9]
    assert (len(weights), len(full)) == (53, 36)
    for weight in full:
        pairs = np.pad(weight, ((0, 0), (0, weight.shape[1] % 2))).reshape(len(weight), -1, 2)
        sums = np.maximum(np.maximum(pairs, 0).sum(2), -np.minimum(pairs, 0).sum(2)).max(1)  # of each channel
        assert 255 * sums.max() < 2**15
        is_coarse = np.abs(weight).max(1) < 127
        if len(weight[0]) != 27:  # of the first layer any two weights count
            assert sums[is_coarse].min(initial=128) >= 125  # and no coarser than that asks for


def test_int8_is_quiet_and_always_the_same(
    int8_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    again = write(request_for(trained_network(TENSORFLOW), tmp_path / "out", "onnx", int8=POST_TRAINING))
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert again.read_bytes() == int8_file.read_bytes()


@torch.no_grad()
def test_channels_may_be_unequal(tmp_path: Path) -> None:
    """One scale for a whole tensor would lose the small channels; with one for each the answers stay."""
    network = unequal(trained_network())
    levels = pictures(64, 64, seed=1)
    answers = network(normalised(levels)).argmax(1)
    request = request_for(network, tmp_path, "onnx", int8=POST_TRAINING, input=LEVEL_INPUT)
    found = torch.from_numpy(run(write(request), levels)).argmax(1)
    for layer in request.network.modules():
        if isinstance(layer, nn.Conv2d):
            step = layer.weight.abs().max() / 127
            layer.weight = nn.Parameter((layer.weight / step).round() * step, requires_grad=False)
    per_tensor = request.network(torch.from_numpy(levels)).argmax(1)
    assert (found == answers).sum() >= 56
    assert (per_tensor == answers).sum() < 48
