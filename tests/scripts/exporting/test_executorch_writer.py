# SPDX-License-Identifier: Apache-2.0
"""exporting/executorch_writer.py: what is in the .pte files, and what they compute in ExecuTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from core.runtimes import open_network
from exporting.executorch_writer import count_delegates, count_int8, read_delegates, write
from exporting.networks import plain_network
from exporting.requests import FLOAT_INPUT, LEVEL_INPUT, POST_TRAINING, Choices, Request
from model import TENSORFLOW, TORCHVISION, Definition, InvertedResidual, MobileNetV2, conv_bn_relu6

pytest.importorskip("executorch")
pytestmark = pytest.mark.filterwarnings("ignore:This API is experimental")  # ExecuTorch's, of its runtime
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
LEVELS_BECOME_FLOATS = ["dim_order_ops::_to_dim_order_copy"]


class FewLayers(nn.Module):
    """The kinds of layers that MobileNetV2 has, and few of each: exporting the whole of it takes long."""

    def __init__(self, definition: Definition) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn_relu6(3, 8, 3, definition, stride=2),
            InvertedResidual(8, 8, 1, 2, definition),
            InvertedResidual(8, 16, 2, 2, definition),
        )
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(16, 4))


def few_layers(definition: Definition) -> nn.Module:
    """With activations beyond 6, and channels that are unlike in size."""
    torch.manual_seed(0)
    network = FewLayers(definition).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 4)
            nn.init.normal_(layer.bias)
    nn.init.normal_(network.classifier[1].weight)
    return network


def request_for(
    folder: Path,
    network: nn.Module,
    size: int,
    int8: str = "",
    input_kind: str = FLOAT_INPUT,
    softmax: bool = False,
    batch: str = "1",
) -> Request:
    choices = Choices("executorch", int8, input_kind, softmax, batch)
    plain = plain_network(network, choices, size, MEAN, STD)
    levels = random_levels(48, size) if int8 else None
    return Request(choices, plain, size, MEAN, STD, levels, {}, folder, "network")


def random_levels(count: int, size: int) -> np.ndarray:
    """Coarse patterns in all brightnesses."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (count, 4, 4, 3)) * generator.uniform(0.2, 1, (count, 1, 1, 3))
    places = np.arange(size) * 4 // size
    return np.ascontiguousarray(blocks[:, places][:, :, places], np.uint8)


def operators_outside(path: Path) -> list[str]:
    """Of ExecuTorch's own, which are slow, and follow or precede the delegates."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    (plan,) = deserialize_pte_binary(path.read_bytes()).program.execution_plan
    return [operator.name for operator in plan.operators]


def operations(path: Path) -> list[str]:
    (graph,) = read_delegates(path)
    return [node["xnode_union_type"] for node in graph["xnodes"]]


@torch.no_grad()
def run_both(request: Request, path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What the file gives and what the network gives."""
    inputs = request.inputs(random_levels(count, request.image_size))
    return open_network(path, 1)(inputs), request.network(torch.from_numpy(inputs)).numpy()


@pytest.mark.parametrize(
    ("definition", "size", "choices"),
    [
        (TENSORFLOW, 20, {}),
        (TORCHVISION, 21, {"input_kind": LEVEL_INPUT, "softmax": True, "batch": "dynamic"}),
    ],
)
def test_float_file_computes_the_network(
    tmp_path: Path, definition: Definition, size: int, choices: dict[str, Any]
) -> None:
    request = request_for(tmp_path, few_layers(definition), size, **choices)
    path = write(request)
    assert [file.name for file in tmp_path.iterdir()] == ["network.pte"] == [path.name]
    found, expected = run_both(request, path, 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert (count_delegates(path), count_int8(path)) == (1, (0, 0))
    assert operators_outside(path) == (LEVELS_BECOME_FLOATS if choices else [])
    assert "XNNClamp" not in operations(path)  # they are part of the convolutions


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, Path]:
    """With a channel of the first convolution whose weights are a hundredth of the others'."""
    network = few_layers(TENSORFLOW)
    with torch.no_grad():
        network.features[0][1].weight[3] /= 100
    request = request_for(tmp_path_factory.mktemp("int8"), network, 20, POST_TRAINING, batch="dynamic")
    return request, write(request)


def test_int8_file_follows_the_network(int8_file: tuple[Request, Path]) -> None:
    """For batches of sizes below and above what it has room for."""
    request, path = int8_file
    for count in (1, 3, 40):
        found, expected = run_both(request, path, count)
        assert found.shape == (count, 4)
        assert np.abs(found - expected).max() < 0.03 * np.ptp(expected)
    assert (count_delegates(path), count_int8(path)) == (1, (7, 1))
    assert operators_outside(path) == []


def test_nothing_between_first_and_last_conversion_is_float(int8_file: tuple[Request, Path]) -> None:
    _, path = int8_file
    names = operations(path)
    assert names.count("XNNConvert") == 2  # of the input and of the logits
    assert names.count("XNNStaticConstantPad") == 2
    assert "XNNClamp" not in names


def test_scales_are_those_of_channels_and_true_ranges(int8_file: tuple[Request, Path]) -> None:
    request, path = int8_file
    (graph,) = read_delegates(path)
    values = [value["xvalue_union"] for value in graph["xvalues"] if "quant_params" in value["xvalue_union"]]
    counts = [
        value["quant_params"]["num_scales"] for value in values if value["quant_params_type"] == "PerChannelQuant"
    ]
    assert counts[::2] == [8, 16, 16, 8, 16, 16, 16, 4]  # channels of the seven convolutions, classes
    inputs = request.inputs(request.calibration)
    scale = values[0]["quant_params"]["scale"]
    assert scale == pytest.approx((inputs.max() - inputs.min()) / 255, rel=1e-3)


def test_same_request_gives_same_bytes(int8_file: tuple[Request, Path], tmp_path: Path) -> None:
    request, path = int8_file
    assert write(request._replace(folder=tmp_path)).read_bytes() == path.read_bytes()


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, Path]:
    torch.manual_seed(0)
    network = MobileNetV2(3, 0.35, definition=TENSORFLOW).eval()
    request = request_for(tmp_path_factory.mktemp("whole"), network, 45, POST_TRAINING, LEVEL_INPUT, softmax=True)
    return request, write(request)


def test_whole_network_is_one_delegate_in_int8(whole_file: tuple[Request, Path]) -> None:
    request, path = whole_file
    assert (count_delegates(path), count_int8(path)) == (1, (52, 1))
    assert operators_outside(path) == LEVELS_BECOME_FLOATS
    found, expected = run_both(request, path, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


def test_file_names_no_place_of_this_machine(whole_file: tuple[Request, Path]) -> None:
    _, path = whole_file
    content = path.read_bytes()
    for place in (str(ROOT), str(path.parent), "site-packages", "/tmp", "/home", ".py"):
        assert place.encode() not in content
