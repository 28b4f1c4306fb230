# SPDX-License-Identifier: Apache-2.0
"""Integers in ONNX files in place of numbers, as onnxruntime's programs write them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from graph_running import kinds_of, only, run_graph
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from onnx_models import check_results, graph_of, model_of, numbers

WEIGHT = numbers(4, 3, 3, 3)
INTEGERS = np.random.default_rng(7).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)


def test_operations_on_integers_become_those_on_numbers(tmp_path: Path) -> None:
    """Of onnxruntime's format QOperator; results are rounded to steps of 0.5."""
    body = """
        a = QuantizeLinear(x, sx, zx) h = QLinearConv <strides=[2,2]> (a, sx, zx, q, s4, z4, step, zy, b)
        y = DequantizeLinear(h, step, zy)
    """
    constants = {"q": INTEGERS, "s4": np.float32([0.01, 0.02, 0.03, 0.005]), "z4": np.zeros(4, np.int8)}
    constants |= {"sx": np.float32(1 / 32), "zx": np.uint8(128), "step": np.float32(0.5), "zy": np.uint8(120)}
    constants["b"] = np.array([5000, -6000, 7000, 8000], np.int32)
    model = model_of(body, constants, opset=21)
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["nothing", "convolution", "nothing", "nothing"]
    assert len(graph.notes) == 1
    exact = np.random.default_rng(2).integers(-100, 100, (1, 3, 9, 9)).astype(np.float32) / 32
    check_results(model, graph, exact, tolerance=0.2501)


def test_a_classifier_of_integers_as_onnxruntime_writes_it(tmp_path: Path) -> None:
    body = """
        a = QuantizeLinear(x, sx, zx) t = com.microsoft.QLinearAdd(a, sx, zx, a, sx, zx, step, zx)
        m = com.microsoft.QLinearGlobalAveragePool(t, step, zx, sx, zx) f = Flatten(m)
        y = com.microsoft.QGemm <transB=1> (f, sx, zx, p, s5, z5, b)
    """
    constants = {"sx": np.float32(0.25), "zx": np.uint8(128), "step": np.float32(0.5)}
    constants |= {"p": np.arange(15, dtype=np.int8).reshape(5, 3), "s5": np.float32([1, 2, 3, 4, 5])}
    constants |= {"z5": np.int8([1, 1, 1, 1, 1]), "b": np.array([4, 8, 12, 16, 20], np.int32)}
    graph = graph_of(model_of(body, constants), tmp_path)
    assert kinds_of(graph) == ["nothing", "add", "nothing", "mean", "nothing", "linear"]
    tensors = only(graph, "linear").tensors
    assert tensors["weight"][1].tolist() == [4.0, 6.0, 8.0]  # 2 * (3 - 1), 2 * (4 - 1), 2 * (5 - 1)
    assert tensors["bias"].tolist() == [1.0, 4.0, 9.0, 16.0, 25.0]  # 0.25 * 1 * 4, 0.25 * 2 * 8, ...


def test_a_cut_by_integers_in_place_of_relu6_is_relu6(tmp_path: Path) -> None:
    """onnxruntime's quantize_static() leaves Clip out where the integers have the same limits."""
    body = """
        h = Conv(x, w) q = QuantizeLinear(h, step, zero) r = DequantizeLinear(q, step, zero)
        i = Conv(r, v) o = QuantizeLinear(i, step, middle) y = DequantizeLinear(o, step, middle)
    """
    constants = {"w": 3 * WEIGHT, "v": numbers(2, 4, 1, 1), "step": np.float32(6 / 255)}
    model = model_of(body, constants | {"zero": np.int8(-128), "middle": np.int8(0)})
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["convolution", "relu6", "nothing", "convolution", "nothing", "nothing"]
    constants["step"] = np.float32(9 / 255)
    graph = graph_of(model_of(body, constants | {"zero": np.int8(-128), "middle": np.int8(0)}), tmp_path)
    assert kinds_of(graph)[:2] == ["convolution", "other"]


CUTS = {  # what integers from 0 on limit, to 6 or to 9, beside the kinds of operations that stand for it
    "a convolution": (6, "v = Conv(x, w)", "relu6"),
    "a convolution with its bias added": (6, "h = Conv(x, w) v = Add(h, b)", "relu6"),
    "a convolution, to 9": (9, "v = Conv(x, w)", "other"),
    "a sum": (6, "v = Add(x, x)", "other"),
    "a sum, to 9": (9, "h = Conv(x, w) v = Add(h, h)", "other"),
    "logits": (9, "h = GlobalAveragePool(x) f = Flatten(h) v = Gemm(f, p)", "nothing"),
    "logits of a convolution": (9, "h = GlobalAveragePool(x) v = Conv(h, k)", "nothing"),
    "an image": (1, "v = Div(x, two)", "nothing"),
}


@pytest.mark.parametrize("written", ["QDQ", "QOperator"])
@pytest.mark.parametrize(("highest", "body", "kind"), CUTS.values(), ids=CUTS.keys())
def test_a_cut_at_0_is_a_relu_but_for_logits_and_images(
    highest: float, body: str, kind: str, written: str, tmp_path: Path
) -> None:
    """MobileNetV2 has no ReLU after its sums. All int8 ranges include 0, where those of logits above it begin."""
    constants = {"w": WEIGHT, "b": numbers(4, 1, 1), "p": numbers(3, 5), "k": numbers(5, 3, 1, 1), "two": np.float32(2)}
    constants |= {"step": np.float32(highest / 255), "zero": np.uint8(0), "s": np.float32(1), "z": np.uint8(128)}
    if written == "QOperator" and body == "v = Add(x, x)":
        body = "a = QuantizeLinear(x, s, z) i = com.microsoft.QLinearAdd(a, s, z, a, s, z, step, zero)"
    else:
        body += " i = QuantizeLinear(v, step, zero)"
    model = model_of(f"{body} y = DequantizeLinear(i, step, zero)", constants)
    assert kinds_of(graph_of(model, tmp_path))[-2:] == [kind, "nothing"]


def test_integers_that_get_another_meaning_are_another_network(tmp_path: Path) -> None:
    constants = {"s": np.float32(0.5), "t": np.float32(0.25), "z": np.int8(3), "o": np.int8(4)}
    for meaning, kind in (("s, z", "nothing"), ("t, z", "other"), ("s, o", "other"), ("s", "other")):
        body = f"q = QuantizeLinear(x, s, z) i = Identity(q) y = DequantizeLinear(i, {meaning})"
        assert kinds_of(graph_of(model_of(body, constants), tmp_path)) == ["nothing", "nothing", kind]
    body = (
        "q = QuantizeLinear(x, s, z) h = com.microsoft.QLinearAdd(q, s, z, q, t, z, s, z) y = DequantizeLinear(h, s, z)"
    )
    assert "other" in kinds_of(graph_of(model_of(body, constants), tmp_path))


def test_bytes_of_a_picture_become_numbers_after_a_change_of_axes(tmp_path: Path) -> None:
    body = "t = Transpose <perm=[0,3,1,2]> (x) y = DequantizeLinear(t, s, z)"
    model = model_of(body, {"s": np.float32(0.5), "z": np.uint8(100)}, "1,9,9,3", opset=19)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph = graph_of(model, tmp_path)
    assert only(graph, "scale").tensors["shift"].tolist() == [-50.0]


def test_bytes_of_the_picture_itself_become_numbers(tmp_path: Path) -> None:
    model = model_of("y = DequantizeLinear(x, s, z)", {"s": np.float32(0.5), "z": np.uint8(100)}, opset=19)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph = graph_of(model, tmp_path)
    assert graph.normalisation == ([0.0] * 3, [1 / 255] * 3)
    pixels = np.arange(243, dtype=np.uint8).reshape(1, 3, 9, 9)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": pixels})
    np.testing.assert_allclose(run_graph(graph, torch.from_numpy(pixels).float()).numpy(), expected)
