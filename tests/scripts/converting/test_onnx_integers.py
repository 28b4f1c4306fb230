# SPDX-License-Identifier: Apache-2.0
"""Integers in ONNX files in place of numbers, as onnxruntime's programs write them."""

from pathlib import Path

import numpy as np
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


def test_bytes_of_the_picture_itself_become_numbers(tmp_path: Path) -> None:
    model = model_of("y = DequantizeLinear(x, s, z)", {"s": np.float32(0.5), "z": np.uint8(100)}, opset=19)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph = graph_of(model, tmp_path)
    assert graph.normalisation == ([0.0] * 3, [1 / 255] * 3)
    pixels = np.arange(243, dtype=np.uint8).reshape(1, 3, 9, 9)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": pixels})
    np.testing.assert_allclose(run_graph(graph, torch.from_numpy(pixels).float()).numpy(), expected)
