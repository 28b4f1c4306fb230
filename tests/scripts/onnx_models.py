# SPDX-License-Identifier: Apache-2.0
"""Small ONNX files, and what onnx's own ReferenceEvaluator computes with them."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from graph_running import run_graph
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from converting.graphs import Graph
from converting.onnx_files import read_onnx

Constants = dict[str, np.ndarray]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(body: str, constants: Constants, shape: str = "1,3,9,9", opset: int = 18) -> onnx.ModelProto:
    """A network from x to y in the text form of onnx.parser."""
    domains = f'["" : {opset}, "com.microsoft" : 1]'
    text = f"<ir_version: 8, opset_import: {domains}> network (float[{shape}] x) => (float[N,C] y) {{ {body} }}"
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


def graph_of(model: onnx.ModelProto, folder: Path) -> Graph:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return read_onnx(path)


def error_of(model: onnx.ModelProto, folder: Path) -> str:
    """The one line that a file gets."""
    with pytest.raises(ValueError) as caught:
        graph_of(model, folder)
    line = str(caught.value)
    assert line.startswith(f"{folder}/model.onnx: ")
    assert line.isprintable()
    return line.removeprefix(f"{folder}/model.onnx: ")


def check_results(model: onnx.ModelProto, graph: Graph, images: np.ndarray, tolerance: float = 1e-5) -> None:
    """images [N, 3, H, W]; a file with another order of axes gets them in that."""
    axes = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    fed = images.transpose(0, 2, 3, 1) if axes[3] == 3 else images
    (expected,) = ReferenceEvaluator(model).run(None, {"x": fed})
    computed = run_graph(graph, torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(computed.reshape(expected.shape), expected, rtol=1e-4, atol=tolerance)
