#!/bin/bash
# nnef-tools takes the second axis for a Softmax of opset 13 that names none, where ONNX has the last one.
#
# Expected: since opset 13 the default of Softmax's axis is -1; a softmax over rows of scores (batch, heads, 3, 5) makes
# each row of 5 sum to 1.
# Seen with nnef-tools 1.0.11: the file says softmax with the axis 1, which was the default up to opset 12 (and meant
# all axes from there on). With an axis in the ONNX file it is right.
# Why it matters: this is what attention does. The weights of a row do not sum to 1 in the converted network; the sizes
# are right, and a classifier's row of logits is so, too, as it has two axes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-compile --disable-pip-version-check --root-user-action ignore --target "$folder" \
    nnef-tools==1.0.11 nnef==1.0.10 future==1.0.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import subprocess
import sys

import nnef
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def answers(name: str, node: onnx.NodeProto, image: np.ndarray, constants: dict) -> tuple[np.ndarray, object, tuple]:
    """What ONNX Runtime says, and the operation of the NNEF file with the sizes that NNEF's own parser infers."""
    graph = helper.make_graph(
        [node],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None] * image.ndim)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, f"{name}.onnx")
    command = [sys.executable, "-m", "nnef_tools.convert", "--input-format", "onnx", "--output-format", "nnef"]
    subprocess.run([*command, "--input-model", f"{name}.onnx", "--output-model", f"{name}.nnef"], check=True,
                   stdout=subprocess.DEVNULL)
    found = nnef.load_graph(f"{name}.nnef")
    nnef.infer_shapes(found)
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    (runtime,) = session.run(None, {"image": image})
    operation = found.operations[-1]
    (output,) = operation.outputs.values()
    return runtime, operation, tuple(found.tensors[output].shape)


packages = ("nnef-tools", "nnef", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
image = np.random.default_rng(0).standard_normal((1, 2, 3, 5), np.float32)
for asked, right, seen in (({"axis": -1}, 3, [3]), ({"axis": 1}, 1, [1]), ({}, 3, [1])):
    node = helper.make_node("Softmax", ["image"], ["answer"], **asked)
    runtime, operation, inferred = answers(f"softmax_{asked.get('axis', 'none')}", node, image, {})
    weight = np.exp(image)
    assert np.allclose(runtime, weight / weight.sum(right, keepdims=True), atol=1e-6) and inferred == image.shape
    axes = list(operation.attribs["axes"])
    print(f"attributes {asked}: ONNX Runtime takes the axis {right}, NNEF has {operation.name} with the axes {axes}")
    assert operation.name == "softmax" and axes == seen, "the behaviour has changed"
PYTHON
