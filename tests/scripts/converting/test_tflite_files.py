# SPDX-License-Identifier: Apache-2.0
"""What the reader of TensorFlow Lite says of a file, beside what the interpreter of LiteRT computes with it."""

import random
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import torch
from graph_running import kinds_of, only, run_graph
from tflite_models import TfliteModel, run_tflite

from converting.graphs import Graph
from converting.tflite_files import read_tflite

RELU, RELU_N1_TO_1, RELU6, TANH = 1, 2, 3, 4
SAME, VALID = 0, 1


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def graph_of(model: TfliteModel | bytes, folder: Path) -> Graph:
    path = folder / "model.tflite"
    path.write_bytes(model if isinstance(model, bytes) else model.content())
    return read_tflite(path)


def error_of(model: TfliteModel | bytes, folder: Path) -> str:
    """The one line that a file gets."""
    with pytest.raises(ValueError) as caught:
        graph_of(model, folder)
    line = str(caught.value)
    assert line.startswith(f"{folder}/model.tflite: ")
    assert line.isprintable()
    return line


def check_results(model: TfliteModel, graph: Graph, tolerance: float = 1e-5) -> None:
    """Of the same images, which the file has with their channels last."""
    height, width = graph.image_size or (9, 9)
    images = 3 * numbers(1, 3, height, width, seed=9)
    expected = run_tflite(model.content(), np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    if expected.ndim == 4:
        expected = expected.transpose(0, 3, 1, 2)
    computed = run_graph(graph, torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(computed.reshape(expected.shape), expected, rtol=1e-4, atol=tolerance)


def convolved(size: int, stride: int = 1, dilation: int = 1, padding: int = SAME, activation: int = 0) -> TfliteModel:
    """A convolution of 3 x 3 from 3 channels to 4."""
    model = TfliteModel([1, size, size, 3])
    inputs = [0, model.add_constant(numbers(4, 3, 3, 3)), model.add_constant(numbers(4, seed=1))]
    taken = 0 if padding == SAME else 2 * dilation
    result = -(-(size - taken) // stride)
    output = model.add_tensor([1, result, result, 4])
    settings = {"strideH": stride, "strideW": stride, "dilationHFactor": dilation, "dilationWFactor": dilation}
    settings |= {"padding": padding, "fusedActivationFunction": activation}
    model.add("CONV_2D", inputs, output, "Conv2DOptions", **settings)
    return model


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_convolutions_compute_what_the_interpreter_does(
    size: int, padding: int, stride: int, dilation: int, tmp_path: Path
) -> None:
    model = convolved(size, stride, dilation, padding)
    graph = graph_of(model, tmp_path)
    assert (kinds_of(graph), graph.image_size, graph.normalisation) == (["convolution"], (size, size), None)
    check_results(model, graph)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_weights_take_the_order_of_torch(multiplier: int, tmp_path: Path) -> None:
    model = TfliteModel([1, 9, 9, 3])
    inputs = [0, model.add_constant(numbers(1, 3, 3, 3 * multiplier)), model.add_constant(numbers(3 * multiplier))]
    output = model.add_tensor([1, 5, 5, 3 * multiplier])
    settings = {"strideH": 2, "strideW": 2, "depthMultiplier": multiplier}
    model.add("DEPTHWISE_CONV_2D", inputs, output, "DepthwiseConv2DOptions", **settings)
    graph = graph_of(model, tmp_path)
    assert only(graph, "convolution").settings["groups"] == 3
    assert only(graph, "convolution").tensors["weight"].shape == (3 * multiplier, 1, 3, 3)
    check_results(model, graph)


def test_an_activation_in_a_convolution_is_an_operation_of_its_own(tmp_path: Path) -> None:
    model = convolved(9, activation=RELU6)
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["convolution", "relu6"]
    check_results(model, graph)
    for activation, name in ((RELU, "RELU"), (RELU_N1_TO_1, "RELU_N1_TO_1"), (TANH, "CONV_2D")):
        assert graph_of(convolved(9, activation=activation), tmp_path).operations[-1].settings == {"what": name}


@pytest.mark.parametrize("writes", ["MEAN", "AVERAGE_POOL_2D"])
def test_a_classifier_with_all_around_it(writes: str, tmp_path: Path) -> None:
    model = TfliteModel([1, 9, 9, 3])
    centre, pads = (
        model.add_constant(numbers(1, 1, 1, 3)),
        model.add_constant(np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32)),
    )
    map1, map2, map3 = (model.add_tensor([1, height, width, 3]) for height, width in ((9, 9), (10, 11), (10, 11)))
    model.add("SUB", [0, centre], map1, "SubOptions")
    model.add("PAD", [map1, pads], map2, "PadOptions")
    model.add("ADD", [map2, map2], map3, "AddOptions", fusedActivationFunction=RELU6)
    pooled, row = model.add_tensor([1, 1, 1, 3]), model.add_tensor([1, 3])
    if writes == "MEAN":
        axes = model.add_constant(np.array([1, 2], np.int32))
        model.add("MEAN", [map3, axes], pooled, "ReducerOptions", keepDims=True)
    else:
        settings = {"padding": VALID, "strideH": 1, "strideW": 1, "filterHeight": 10, "filterWidth": 11}
        model.add("AVERAGE_POOL_2D", [map3], pooled, "Pool2DOptions", **settings)
    model.add("RESHAPE", [pooled, model.add_constant(np.array([-1, 3], np.int32))], row)
    logits, answer = model.add_tensor([1, 5]), model.add_tensor([1, 5])
    weights = [model.add_constant(numbers(5, 3, seed=2)), model.add_constant(numbers(5, seed=3))]
    model.add("FULLY_CONNECTED", [row, *weights], logits, "FullyConnectedOptions")
    model.add("SOFTMAX", [logits], answer, "SoftmaxOptions", beta=1.0)
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["scale", "pad", "add", "relu6", "mean", "nothing", "linear", "softmax"]
    check_results(model, graph)


@pytest.mark.parametrize("kind", ["MUL", "ADD", "SUB", "DIV"])
@pytest.mark.parametrize("is_first", [True, False])
def test_arithmetic_with_a_constant_is_a_scale(kind: str, is_first: bool, tmp_path: Path) -> None:
    model = TfliteModel([1, 9, 9, 3])
    inputs = [0, model.add_constant(numbers(3) + 3)]
    output = model.add_tensor([1, 9, 9, 3])
    model.add(kind, inputs[::-1] if is_first else inputs, output, f"{kind.capitalize()}Options")
    graph = graph_of(model, tmp_path)
    if (kind, is_first) == ("DIV", True):
        assert graph.operations[-1].settings == {"what": "DIV"}
    else:
        assert kinds_of(graph) == ["scale"]
        check_results(model, graph)


def test_an_input_with_its_channels_first(tmp_path: Path) -> None:
    """As from converters of torch's networks."""
    model = TfliteModel([1, 3, 8, 9])
    turned, result = model.add_tensor([1, 8, 9, 3]), model.add_tensor([1, 8, 9, 4])
    model.add("TRANSPOSE", [0, model.add_constant(np.array([0, 2, 3, 1], np.int32))], turned)
    weights = [model.add_constant(numbers(4, 3, 3, 3)), model.add_constant(numbers(4))]
    model.add("CONV_2D", [turned, *weights], result, "Conv2DOptions", strideH=1, strideW=1)
    graph = graph_of(model, tmp_path)
    assert (kinds_of(graph), graph.image_size) == (["nothing", "convolution"], (8, 9))
    images = numbers(1, 3, 8, 9, seed=2)
    expected = run_tflite(model.content(), images).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run_graph(graph, torch.from_numpy(images)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_image_of_any_size(tmp_path: Path) -> None:
    model = convolved(9)
    model.graph.tensors[0].shapeSignature = [-1, -1, -1, 3]
    assert graph_of(model, tmp_path).image_size is None


def test_limits_one_after_the_other_are_relu6(tmp_path: Path) -> None:
    model = TfliteModel([1, 9, 9, 3])
    first, second = model.add_tensor([1, 9, 9, 3]), model.add_tensor([1, 9, 9, 3])
    model.add("RELU", [0], first)
    model.add("MINIMUM", [first, model.add_constant(np.float32([6]))], second, "MaximumMinimumOptions")
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["relu6"]
    check_results(model, graph)


def test_float16_weights_become_float32(tmp_path: Path) -> None:
    model = TfliteModel([1, 9, 9, 3])
    half = model.add_constant(numbers(4, 3, 3, 3).astype(np.float16))
    weight = model.add_tensor([4, 3, 3, 3])
    model.add("DEQUANTIZE", [half], weight)
    settings = {"strideH": 1, "strideW": 1}
    model.add(
        "CONV_2D",
        [0, weight, model.add_constant(numbers(4))],
        model.add_tensor([1, 9, 9, 4]),
        "Conv2DOptions",
        **settings,
    )
    graph = graph_of(model, tmp_path)
    assert (kinds_of(graph), graph.notes) == (["convolution"], [])
    assert only(graph, "convolution").tensors["weight"].dtype == torch.float32
    check_results(model, graph, tolerance=1e-4)


INTEGERS = np.random.default_rng(4).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
STEP = 1 / 32


def of_integers(kind: str, activation: int = 0, scale: float = 0.5, zero_point: int = 0) -> TfliteModel:
    """A convolution of integers, int8 with one scale a channel, or uint8 with one and zero points, as years ago."""
    lowest = -128 if kind == "int8" else 0
    scales = np.float32([0.01, 0.02, 0.03, 0.005]) if kind == "int8" else np.float32([0.02])
    model = TfliteModel([1, 9, 9, 3], kind, STEP, lowest + 100)
    weights = INTEGERS if kind == "int8" else INTEGERS.view(np.uint8)
    weight = model.add_constant(weights, scales, 0 if kind == "int8" else 131)
    bias = model.add_constant(np.array([100, -200, 300, 400], np.int32), scales * np.float32(STEP))
    output = model.add_tensor([1, 5, 5, 4], kind, scale, lowest + 128 + zero_point)
    settings = {"strideH": 2, "strideW": 2, "fusedActivationFunction": activation}
    model.add("CONV_2D", [0, weight, bias], output, "Conv2DOptions", version=3, **settings)
    return model


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_integers_become_the_numbers_that_they_stand_for(kind: str, tmp_path: Path) -> None:
    """The interpreter's results are rounded to steps of 0.5, and so half a step from those of the numbers."""
    model = of_integers(kind)
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["convolution"]
    (note,) = graph.notes
    assert note.startswith(f"The weights of the file were {kind}; each became the float number")
    assert note.endswith(".")
    pixels = np.random.default_rng(5).integers(0, 256, (1, 9, 9, 3))
    fed = (pixels - 128).astype(np.int8) if kind == "int8" else pixels.astype(np.uint8)
    results = run_tflite(model.content(), fed).astype(np.float32)
    expected = 0.5 * (results - (0 if kind == "int8" else 128))
    assert graph.normalisation is not None
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in graph.normalisation)
    images = torch.from_numpy(pixels).float().permute(0, 3, 1, 2) / 255
    computed = run_graph(graph, (images - mean) / std).permute(0, 2, 3, 1).numpy()
    assert np.abs(expected).max() > 10
    inside = np.abs(expected) < 63
    assert np.abs(computed - expected)[inside].max() < 0.2501


def test_a_picture_of_integers_gives_mean_and_std(tmp_path: Path) -> None:
    """Of MobileNet's usual range, -1 to 1, in 256 steps: scale 1 / 127.5, pixel 127.5 is 0."""
    for kind, zero_point in (("uint8", 127), ("int8", -1)):
        model = of_integers(kind)
        model.graph.tensors[0].quantization.scale, model.graph.tensors[0].quantization.zeroPoint = (
            [1 / 127.5],
            [zero_point],
        )
        mean, std = graph_of(model, tmp_path).normalisation
        assert mean == pytest.approx([127 / 255] * 3)
        assert std == pytest.approx([0.5] * 3)


def test_a_cut_by_integers_in_place_of_relu6_is_relu6(tmp_path: Path) -> None:
    for kind in ("int8", "uint8"):
        model = of_integers(kind, scale=6 / 255, zero_point=-128)
        assert kinds_of(graph_of(model, tmp_path)) == ["convolution", "relu6"]
        assert kinds_of(graph_of(of_integers(kind, scale=8 / 255, zero_point=-128), tmp_path)) == [
            "convolution",
            "other",
        ]
        assert kinds_of(graph_of(of_integers(kind, RELU6, 6 / 255, -128), tmp_path)) == ["convolution", "relu6"]


def test_a_cut_at_0_after_a_sum_is_a_relu_and_after_a_classifier_nothing(tmp_path: Path) -> None:
    for lowest, kinds in ((-128, ["add", "other"]), (0, ["add"])):
        model = TfliteModel([1, 9, 9, 3], "int8", STEP)
        model.add("ADD", [0, 0], model.add_tensor([1, 9, 9, 3], "int8", 0.02, lowest), "AddOptions", version=2)
        assert kinds_of(graph_of(model, tmp_path)) == kinds
    model = TfliteModel([1, 9, 9, 3], "int8", STEP)
    pooled, logits = model.add_tensor([1, 3], "int8", STEP), model.add_tensor([1, 5], "int8", 0.02, -128)
    model.add("MEAN", [0, model.add_constant(np.array([1, 2], np.int32))], pooled, "ReducerOptions")
    weight = model.add_constant(np.ones((5, 3), np.int8), 0.5)
    model.add("FULLY_CONNECTED", [pooled, weight], logits, "FullyConnectedOptions", version=4)
    assert kinds_of(graph_of(model, tmp_path)) == ["mean", "linear", "nothing"]


def test_a_cast_to_floats_changes_nothing_and_one_to_integers_rounds(tmp_path: Path) -> None:
    for kind, expected in (("float32", "nothing"), ("float16", "nothing"), ("int32", "other"), ("uint8", "other")):
        model = TfliteModel([1, 9, 9, 3])
        model.add("CAST", [0], model.add_tensor([1, 9, 9, 3], kind), "CastOptions")
        assert kinds_of(graph_of(model, tmp_path)) == [expected]


def test_a_network_of_another_kind_is_not_called_damaged(tmp_path: Path) -> None:
    model = TfliteModel([1, 10])
    model.add("RELU6", [0], model.add_tensor([1, 10]))
    assert error_of(model, tmp_path).endswith(
        "tflite: its input tensor 0 has 2 axes, images have 4; name a file of an image classifier"
    )
    assert error_of(model.content()[:100], tmp_path).endswith("; get it again")


def test_weights_of_integers_among_floats(tmp_path: Path) -> None:
    model = TfliteModel([1, 9, 9, 3])
    weight = model.add_constant(INTEGERS, np.float32([0.01, 0.02, 0.03, 0.005]))
    settings = {"strideH": 1, "strideW": 1}
    model.add(
        "CONV_2D",
        [0, weight, model.add_constant(numbers(4))],
        model.add_tensor([1, 9, 9, 4]),
        "Conv2DOptions",
        version=5,
        **settings,
    )
    graph = graph_of(model, tmp_path)
    check_results(model, graph, tolerance=0.7)  # of results up to 100: the interpreter rounds the image to 8 bits
    assert len(graph.notes) == 1


def test_what_mobilenet_has_not_is_named(tmp_path: Path) -> None:
    for kind in ("HARD_SWISH", "TANH", "RELU_0_TO_1"):
        model = TfliteModel([1, 9, 9, 3])
        model.add(kind, [0], model.add_tensor([1, 9, 9, 3]))
        assert graph_of(model, tmp_path).operations[-1].settings == {"what": kind}
    model.model.operatorCodes[0].builtinCode = model.model.operatorCodes[0].deprecatedBuiltinCode = 32
    model.model.operatorCodes[0].customCode = "Own\n"
    assert graph_of(model, tmp_path).operations[-1].settings == {"what": "custom Own?"}
    model = TfliteModel([1, 9, 9, 3])
    model.add("SOFTMAX", [0], model.add_tensor([1, 9, 9, 3]), "SoftmaxOptions", beta=2.0)
    assert graph_of(model, tmp_path).operations[-1].settings == {"what": "SOFTMAX"}
    model = TfliteModel([1, 9, 9, 3])
    model.add("RESHAPE", [0], model.add_tensor([1, 9, 3, 9]))
    assert graph_of(model, tmp_path).operations[-1].settings == {"what": "RESHAPE"}


def test_files_that_are_no_classifier_get_one_line(tmp_path: Path) -> None:
    model = convolved(9)
    assert "2 graphs" in error_of(with_two_graphs(), tmp_path)
    model.graph.tensors[1].shape = [4, 3, 3, 4]
    assert "claims 144 values and has 432 bytes" in error_of(model, tmp_path)
    model.graph.tensors[1].shape = [-4, -3, 3, 3]
    assert "has the shape" in error_of(model, tmp_path)
    model = convolved(9)
    model.graph.operators[0].inputs = [0, 99, 2]
    assert "part 99 of 4" in error_of(model, tmp_path)
    model = TfliteModel([1, 9, 9, 3])
    model.add("RELU6", [1], model.add_tensor([1, 9, 9, 3]))
    assert "before that is made" in error_of(model, tmp_path)
    model = convolved(9)
    model.graph.operators[0].builtinOptions.strideH = 0
    assert "below 1" in error_of(model, tmp_path)
    assert "does not begin like one" in error_of(b"TFL3" * 3 + b"x", tmp_path) + error_of(bytes(9), tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_tflite(tmp_path / "absent.tflite")


def with_two_graphs() -> TfliteModel:
    model = convolved(9)
    model.model.subgraphs.append(model.graph)
    return model


def test_a_small_file_makes_no_large_copies(tmp_path: Path) -> None:
    model = TfliteModel([1, 9, 9, 3])
    weight = model.add_constant(np.zeros((4, 50, 50, 3), np.int8), np.float32([1]))
    for _ in range(300):
        model.add(
            "CONV_2D",
            [0, weight, model.add_constant(numbers(4))],
            model.add_tensor([1, 9, 9, 4]),
            "Conv2DOptions",
            strideH=1,
            strideW=1,
        )
    assert "far more weights" in error_of(model, tmp_path)


def test_what_many_parts_share_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All operations of a file can point to one long list, or one long text."""
    model = convolved(9)
    model.graph.operators[0].inputs += [0] * 98
    assert "list of 101 axes or values" in error_of(model, tmp_path)
    model = TfliteModel([1, 9, 9, 3])
    for index in range(50):
        model.add("TANH", [index], model.add_tensor([1, 9, 9, 3]))
        model.graph.tensors[-1].name = "long" * 1000
    assert len(graph_of(model, tmp_path).operations) == 50
    offsets: dict[str, int] = {}
    create = flatbuffers.Builder.CreateString

    def create_once(builder: flatbuffers.Builder, text: str) -> int:
        if text not in offsets:
            offsets[text] = create(builder, text)
        return offsets[text]

    monkeypatch.setattr(flatbuffers.Builder, "CreateString", create_once)
    assert "its names are longer than it is" in error_of(model, tmp_path)


def test_without_the_package_the_line_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(ValueError, match="the package tflite; `python3 -m pip install -r requirements-convert.txt`"):
        read_tflite(tmp_path / "any.tflite")


def test_damage_anywhere_ends_in_one_line(tmp_path: Path) -> None:
    content = of_integers("int8", RELU6).content()
    source = random.Random(0)
    for _ in range(600):
        damaged = bytearray(content)
        for _ in range(source.choice((1, 1, 4))):
            damaged[source.randrange(len(content))] ^= 1 << source.randrange(8)
        try:
            graph_of(bytes(damaged[: source.choice((len(content), source.randrange(len(content))))]), tmp_path)
        except ValueError as error:
            assert str(error).startswith(f"{tmp_path}/model.tflite: ")
            assert str(error).isprintable()
