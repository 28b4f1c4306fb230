# SPDX-License-Identifier: Apache-2.0
"""What the reader of ONNX says of a file, beside what onnx's own ReferenceEvaluator computes with it."""

import os
import random
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graph_running import kinds_of, only
from onnx import TensorProto, helper
from onnx_models import check_results, error_of, graph_of, model_of, numbers

from converting import onnx_wire
from converting.onnx_files import read_onnx

WEIGHT, DEPTHWISE = numbers(4, 3, 3, 3), numbers(6, 1, 3, 3)
POINTS = numbers(5, 3, seed=1)
CONVOLUTIONS = {
    "explicit padding": "y = Conv <strides=[2,1], pads=[0,1,2,0], dilations=[1,2]> (x, w, b)",
    "nothing said": "y = Conv (x, w, b)",
    "VALID": 'y = Conv <auto_pad="VALID", strides=[2,2]> (x, w, b)',
    "SAME_UPPER": 'y = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w, b)',
    "depthwise": "y = Conv <group=3, kernel_shape=[3,3]> (x, d)",
    "added bias": "h = Conv (x, w) y = Add(h, a)",
}


@pytest.mark.parametrize("body", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
@pytest.mark.parametrize("size", [8, 9])
def test_convolutions_compute_what_onnx_says(body: str, size: int, tmp_path: Path) -> None:
    constants = {"w": WEIGHT, "b": numbers(4), "d": DEPTHWISE, "a": numbers(4, 1, 1)}
    model = model_of(body, constants, f"1,3,{size},{size}")
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["convolution"]
    assert graph.image_size == (size, size)
    check_results(model, graph, numbers(1, 3, size, size, seed=2))


def test_what_is_used_without_its_bias_keeps_it_apart(tmp_path: Path) -> None:
    model = model_of("h = Conv(x, w) g = Add(h, a) y = Add(h, g)", {"w": WEIGHT, "a": numbers(4, 1, 1)})
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["convolution", "scale", "add"]
    check_results(model, graph, numbers(1, 3, 9, 9, seed=2))


PER_CHANNEL = numbers(3, seed=3)
RELU6 = ["relu6"]
ALIKE = {  # what networks compute, in the ways that programs write it: kinds of operations, version, text
    "Clip with constants": (RELU6, 18, "y = Clip(x, zero, six)"),
    "Clip with attributes": (RELU6, 6, "y = Clip <min=0.0, max=6.0> (x)"),
    "Relu, then Min": (RELU6, 18, "h = Relu(x) y = Min(six, h)"),
    "Max, then Min": (RELU6, 18, "h = Max(x, zero) y = Min(h, six)"),
    "limits in nodes": (
        RELU6,
        13,
        "low = Constant <value_float=0.0> () high = Constant <value = float {6.0}> () y = Clip(x, low, high)",
    ),
    "limits as torch writes them without simplifying": (
        RELU6,
        18,
        "s = Shape <start=0, end=1> (c) e = Expand(zero, s) low = CastLike(zero, x) high = CastLike(six, x)"
        " y = Clip(x, low, high)",
    ),
    "batch norm": (["batch-norm"], 15, "y = BatchNormalization <epsilon=0.01> (x, c, b, b, v)"),
    "Sub": (["scale"], 18, "y = Sub(x, m)"),
    "Sub from": (["scale"], 18, "y = Sub(six, x)"),
    "Div, Mul, Add": (["scale"] * 3, 18, "h = Div(x, m) j = Mul(m, h) y = Add(j, six)"),
    "Add": (["add"], 18, "y = Add(x, x)"),
    "Sum": (["add"], 13, "y = Sum(x, x)"),
    "Pad in attributes": (["pad"], 2, "y = Pad <pads=[0,0,1,2,0,0,3,4]> (x)"),
    "Pad in constants": (["pad"], 18, "y = Pad(x, pads, zero)"),
    "global pooling": (["mean"], 18, "y = GlobalAveragePool(x)"),
    "pooling of the whole map": (["mean"], 18, "y = AveragePool <kernel_shape=[9,9]> (x)"),
    "mean, axes in attributes": (["mean"], 13, "y = ReduceMean <axes=[-2,-1], keepdims=0> (x)"),
    "mean, axes in constants": (["mean"], 18, "y = ReduceMean <keepdims=1> (x, axes)"),
    "mean of columns, then rows": (
        ["mean"],
        13,
        "h = ReduceMean <axes=[3], keepdims=0> (x) y = ReduceMean <axes=[2], keepdims=0> (h)",
    ),
    "mean of rows, then columns": (["mean"], 13, "h = ReduceMean <axes=[2]> (x) y = ReduceMean <axes=[3]> (h)"),
    "Gemm": (["mean", "nothing", "linear"], 18, "h = GlobalAveragePool(x) f = Flatten(h) y = Gemm(f, i, k)"),
    "Gemm with all": (
        ["mean", "nothing", "linear"],
        18,
        "h = GlobalAveragePool(x) f = Squeeze(h, axes) y = Gemm <transB=1, alpha=0.5, beta=2.0> (f, p, six)",
    ),
    "MatMul": (
        ["mean", "nothing", "linear"],
        18,
        "h = GlobalAveragePool(x) f = Reshape(h, row) g = MatMul(f, i) y = Add(g, k)",
    ),
    "answers": (
        ["mean", "nothing", "nothing", "sigmoid", "softmax"],
        18,
        "h = GlobalAveragePool(x) f = Flatten(h) g = Identity(f) s = Sigmoid(g) y = Softmax(s)",
    ),
    "shape worked out from the input": (
        ["mean", "nothing", "linear"],
        13,
        "h = GlobalAveragePool(x) s = Shape(h) first = Constant <value_ints=[0]> () n = Gather(s, first)"
        " rest = Constant <value_ints=[-1]> () t = Concat <axis=0> (n, rest) f = Reshape(h, t) y = MatMul(f, i)",
    ),
}


@pytest.mark.parametrize(("kinds", "opset", "body"), ALIKE.values(), ids=ALIKE.keys())
def test_what_is_the_same_is_said_in_the_same_words(kinds: list[str], opset: int, body: str, tmp_path: Path) -> None:
    constants = {"zero": np.float32(0), "six": np.array([6], np.float32), "m": PER_CHANNEL.reshape(1, 3, 1, 1)}
    constants |= {"c": PER_CHANNEL, "b": numbers(3, seed=4), "v": numbers(3) ** 2 + 1, "p": POINTS, "i": POINTS.T}
    constants |= {"axes": np.array([2, 3]), "pads": np.array([0, 0, 1, 2, 0, 0, 3, 4]), "k": numbers(5)}
    constants["row"] = np.array([0, -1])
    model = model_of(body, {name: array for name, array in constants.items() if name in body}, opset=opset)
    model.ir_version = 4  # the first in which constants are no inputs
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == kinds
    check_results(model, graph, 4 * numbers(1, 3, 9, 9, seed=5))


def test_values_with_channels_last_as_tf2onnx_writes(tmp_path: Path) -> None:
    body = """
        a = Sub(x, mean) t = Transpose <perm=[0,3,1,2]> (a) h = Conv <pads=[0,0,1,1], strides=[2,2]> (t, w)
        u = Transpose <perm=[0,2,3,1]> (h) s = Mul(u, scale) g = ReduceMean <keepdims=0> (s, axes) y = MatMul(g, p)
    """
    constants = {"mean": PER_CHANNEL, "w": WEIGHT, "scale": numbers(1, 1, 4), "axes": np.array([1, 2])}
    model = model_of(body, constants | {"p": numbers(4, 5)}, "1,9,10,3")
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["scale", "nothing", "convolution", "nothing", "scale", "mean", "linear"]
    assert graph.image_size == (9, 10)
    check_results(model, graph, numbers(1, 3, 9, 10, seed=6))


def test_an_image_of_any_size_may_have_its_channels_last(tmp_path: Path) -> None:
    model = model_of("t = Transpose <perm=[0,3,1,2]> (x) y = Conv(t, w)", {"w": WEIGHT}, "N,H,W,C")
    graph = graph_of(model, tmp_path)
    assert (kinds_of(graph), graph.image_size) == (["nothing", "convolution"], None)


INTEGERS = np.random.default_rng(7).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
STORED = {  # weights that are worked out of constants
    "int8, one scale a channel": "w = DequantizeLinear <axis=0> (q, s4, z4)",
    "int8 on the last axis": "t = Transpose <perm=[1,2,3,0]> (q) v = DequantizeLinear <axis=-1> (t, s4)"
    " w = Transpose <perm=[3,0,1,2]> (v)",
    "uint8, one scale": "w = DequantizeLinear(u, s, z)",
    "rounded in the file": "r = QuantizeLinear <axis=0> (f, s4, z4) w = DequantizeLinear <axis=0> (r, s4, z4)",
    "float16": "w = Cast <to=1> (h)",
    "another shape": "i = Identity(flat) w = Reshape(i, shape)",
}


@pytest.mark.parametrize("body", STORED.values(), ids=STORED.keys())
def test_weights_are_the_numbers_that_they_stand_for(body: str, tmp_path: Path) -> None:
    constants = {"q": INTEGERS, "u": INTEGERS.view(np.uint8), "s": np.float32(0.02), "z": np.uint8(131), "flat": WEIGHT}
    constants |= {"s4": numbers(4) ** 2 + 0.01, "z4": np.array([0, 3, -5, 127], np.int8), "f": 5 * WEIGHT}
    constants |= {"h": WEIGHT.astype(np.float16), "shape": np.array([4, -1, 3, 3])}
    constants["flat"] = WEIGHT.reshape(4, -1)
    constants |= {"b": np.array([5, -6, 7, 8], np.int32), "sb": np.float32(0.1)}
    model = model_of(f"{body} c = DequantizeLinear(b, sb) y = Conv(x, w, c)", constants, opset=21)
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["convolution"]
    check_results(model, graph, numbers(1, 3, 9, 9, seed=8), tolerance=1e-3)
    assert only(graph, "convolution").tensors["weight"].dtype == torch.float32
    assert [" were int8;" in note or " were uint8;" in note for note in graph.notes] == [True] * ("Dequantize" in body)


def test_a_window_with_gaps_is_no_mean(tmp_path: Path) -> None:
    body = "y = AveragePool <kernel_shape=[9,9], dilations=[2,2]> (x)"
    assert kinds_of(graph_of(model_of(body, {}, opset=19), tmp_path)) == ["other"]


OTHERS = {
    "Relu": "y = Relu(x)",
    "Clip to -1 and 1": "y = Clip(x, n, o)",
    "HardSwish": "y = HardSwish(x)",
    "Conv": 'y = Conv <auto_pad="SAME_LOWER"> (x, w)',
    "Pad": 'y = Pad <mode="reflect"> (x, pads)',
    "AveragePool": "y = AveragePool <kernel_shape=[3,3]> (x)",
    "Reshape": "y = Reshape(x, shape)",
    "Transpose": "y = Transpose <perm=[0,1,3,2]> (x)",
    "Gemm": "y = Gemm <transA=1> (x, n)",
    "BatchNormalization in training mode": "y = BatchNormalization <training_mode=1> (x, c, c, c, c)",
    "a mean over one of height and width": "y = ReduceMean <axes=[2]> (x)",
    "LogSoftmax": "y = LogSoftmax(x)",
    "Add": "t = Transpose <perm=[0,2,3,1]> (x) y = Add(x, t)",  # pixels of one to channels of the other
    "BatchNormalization": "t = Transpose <perm=[0,2,3,1]> (x) y = BatchNormalization(t, c, c, c, c)",  # of rows
    "com.microsoft.FusedConv": "y = com.microsoft.FusedConv(x, w)",
    "If": "b = Cast <to=9> (x) y = If (b) <then_branch = t () => (float z) { z = Identity(x) },"
    " else_branch = e () => (float z) { z = Identity(x) }>",
}


@pytest.mark.parametrize(("what", "body"), OTHERS.items(), ids=OTHERS.keys())
def test_what_mobilenet_has_not_is_named(what: str, body: str, tmp_path: Path) -> None:
    constants = {"n": np.float32(-1), "o": np.float32(1), "w": WEIGHT, "pads": np.ones(8, np.int64), "c": PER_CHANNEL}
    graph = graph_of(model_of(body, constants | {"shape": np.array([1, 9, 3, 9])}, opset=15), tmp_path)
    assert graph.operations[-1].settings == {"what": what}


@pytest.mark.parametrize(
    ("number", "kind"), [(1, "nothing"), (10, "nothing"), (16, "nothing"), (6, "other"), (9, "other")]
)
def test_a_cast_to_floats_changes_nothing_and_one_to_integers_rounds(number: int, kind: str, tmp_path: Path) -> None:
    assert kinds_of(graph_of(model_of(f"y = Cast <to={number}> (x)", {}), tmp_path)) == [kind]


def test_numbers_that_make_no_sense_are_read(tmp_path: Path) -> None:
    """What they mean is looked at in the network."""
    model = model_of("y = BatchNormalization(x, c, c, c, c)", {"c": PER_CHANNEL}, f"1,3,{2**40},{2**40}", opset=15)
    for eps in (-1.0, float("nan"), float("inf")):
        model.graph.node[0].ClearField("attribute")
        model.graph.node[0].attribute.append(helper.make_attribute("epsilon", eps))
        graph = graph_of(model, tmp_path)
        assert graph.image_size == (2**40, 2**40)
        np.testing.assert_equal(graph.operations[0].settings["eps"], eps)
    model.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("epsilon", [1.0, 2.0]))
    assert "damaged" in error_of(model, tmp_path)


def test_a_network_of_another_kind_is_not_called_damaged(tmp_path: Path) -> None:
    model = model_of("y = Relu(x)", {}, "1,10")
    assert error_of(model, tmp_path) == "its input x has 2 axes, images have 4; name a file of an image classifier"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString()[:-3])
    with pytest.raises(ValueError, match=r"model.onnx: damaged, or not ONNX \(its end is missing\); get it again"):
        read_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("offset", [0, 8])
def test_weights_in_a_file_beside_the_model(offset: int, tmp_path: Path) -> None:
    model = beside("weights.bin", offset)
    (tmp_path / "weights.bin").write_bytes(bytes(offset) + WEIGHT.tobytes())
    check_results(model_of("y = Conv(x, w)", {"w": WEIGHT}), graph_of(model, tmp_path), numbers(1, 3, 9, 9, seed=2))


def beside(location: str, offset: int = 0, length: int = WEIGHT.nbytes) -> onnx.ModelProto:
    model = model_of("y = Conv(x, w)", {"w": WEIGHT})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return model


def test_only_a_file_of_the_same_folder_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    (folder / "short").write_bytes(WEIGHT.tobytes()[:-1])
    for location in ("../secret", f"{tmp_path}/secret", "", ".", "..", "sub/../link", "a\\secret", "a\nb"):
        assert "not a file of the same folder" in error_of(beside(location), folder)
    for location in ("link", "pipe"):
        assert "a link, or no file" in error_of(beside(location), folder)
    assert "does not have" in error_of(beside("short"), folder)
    for offset, length in ((-4, WEIGHT.nbytes), (0, 4), (0, 2**62), (4, WEIGHT.nbytes)):
        (folder / "weights").write_bytes(WEIGHT.tobytes())
        assert "does not have" in error_of(beside("weights", offset, length), folder)
    with pytest.raises(FileNotFoundError, match="absent: no such file; it belongs to the model"):
        graph_of(beside("absent"), folder)


def test_links_and_pipes_are_not_opened_where_the_system_has_no_flags_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    monkeypatch.delattr(os, "O_NOFOLLOW")
    monkeypatch.delattr(os, "O_NONBLOCK")
    test_only_a_file_of_the_same_folder_is_opened(tmp_path)
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    assert kinds_of(graph_of(beside("weights.bin"), tmp_path)) == ["convolution"]


def test_the_bytes_of_a_file_beside_count_once(tmp_path: Path) -> None:
    model = beside("weights.bin")
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
    model.graph.initializer[1].name = "again"
    assert "does not have" in error_of(model, tmp_path)


def test_files_that_are_no_classifier_get_one_line(tmp_path: Path) -> None:
    fine = {"w": WEIGHT}
    assert "before that is made" in error_of(model_of("y = Conv(h, w) h = Relu(x)", fine), tmp_path)
    assert "twice" in error_of(model_of("y = Conv(x, w) y = Relu(x)", fine), tmp_path)
    assert "does not depend" in error_of(model_of("h = Conv(x, w)", fine), tmp_path)
    assert "3 axes" in error_of(model_of("y = Relu(x)", fine, "3,9,9"), tmp_path)
    model = model_of("y = Conv(x, w)", fine)
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    assert "2 inputs" in error_of(model, tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_onnx(tmp_path / "absent.onnx")


def test_a_tensor_has_the_bytes_that_it_claims(tmp_path: Path) -> None:
    for lengths in ([4, 3, 3, 4], [2**40, 2**40, 1, 1], [-4, -3, 3, 3], [1] * 9):
        model = model_of("y = Conv(x, w)", {"w": WEIGHT})
        model.graph.initializer[0].ClearField("dims")
        model.graph.initializer[0].dims.extend(lengths)
        assert "claims" in (line := error_of(model, tmp_path)) or "has the shape" in line
    model.graph.initializer[0].data_type = TensorProto.STRING
    assert "no weights" in error_of(model, tmp_path)


def test_a_small_file_makes_no_large_copies(tmp_path: Path) -> None:
    nodes = " ".join(f"w{i} = DequantizeLinear(q, s)" for i in range(200))
    model = model_of(f"{nodes} y = Conv(x, w0)", {"q": np.zeros((4, 3, 50, 500), np.int8), "s": np.float32(1)})
    assert "far more weights" in error_of(model, tmp_path)
    model = model_of("y = Relu(x) " + " ".join(f"h{i} = Relu(x)" for i in range(5001)), {})
    assert "more than 5000 operations" in error_of(model, tmp_path)


def test_a_part_takes_no_memory_before_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes make an empty node, for which the parser takes about 150."""
    monkeypatch.setattr(onnx_wire, "MOST_PARTS", 1000)
    model = onnx.ModelProto()
    model.graph.node.extend(onnx.NodeProto() for _ in range(1000))
    monkeypatch.setattr(onnx, "load_model_from_string", lambda content: pytest.fail("parsed"))
    assert "more than 1000 parts" in error_of(model, tmp_path)


def test_without_the_package_the_line_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="the package onnx; `python3 -m pip install -r requirements-convert.txt`"):
        read_onnx(tmp_path / "any.onnx")


def test_damage_anywhere_ends_in_one_line(tmp_path: Path) -> None:
    body = """
        q = DequantizeLinear <axis=0> (i, s, z) h = Conv <strides=[2,2], pads=[1,1,1,1]> (x, q)
        r = Clip(h, low, high) m = ReduceMean <keepdims=0> (r, axes) l = Gemm <transB=1> (m, p) y = Softmax(l)
    """
    constants = {"i": INTEGERS, "s": numbers(4) ** 2, "z": np.zeros(4, np.int8), "low": np.float32(0)}
    constants |= {"high": np.float32(6), "axes": np.array([2, 3]), "p": numbers(5, 4)}
    content = model_of(body, constants).SerializeToString()
    path, source = tmp_path / "damaged.onnx", random.Random(0)
    for _ in range(1000):
        damaged = bytearray(content)
        for _ in range(source.choice((1, 1, 4))):
            damaged[source.randrange(len(content))] ^= 1 << source.randrange(8)
        path.write_bytes(damaged[: source.choice((len(content), source.randrange(len(content))))])
        try:
            read_onnx(path)
        except (ValueError, FileNotFoundError) as error:  # other files where a location appears
            assert str(error).startswith(f"{tmp_path}/")
            assert str(error).isprintable()
