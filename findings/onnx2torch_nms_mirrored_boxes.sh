#!/bin/bash
# onnx2torch's NonMaxSuppression keeps every box whose corners are not its top left and its bottom right one.
#
# Expected: ONNX takes the coordinates of any diagonal pair of corners; a box is the same from whichever corner it is
# written, and of two boxes in one place the weaker one goes.
# Seen with onnx2torch 1.5.15: boxes written with the larger column first, or with the larger row first, or with both,
# never overlap, and all of them stay. The same boxes with the smaller ones first are thinned out as they should be,
# and so to sort them does without it. ONNX Runtime 1.32.0 and onnx 1.23.2's reference evaluator give the same for each
# way of writing.
# Why it matters: boxes of a mirrored image are put back as width - x, which exchanges left and right; the specification
# says that this does not matter, and each object is then found as often as the network has seen it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx2torch==1.5.15 torch==2.15.0 torchvision==0.29.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnx2torch
import onnxruntime
import torch
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

constants = {
    "most": np.array([10], np.int64),
    "overlap": np.array([0.5], np.float32),
    "least": np.array([0.1], np.float32),
}
graph = helper.make_graph(
    [helper.make_node("NonMaxSuppression", ["boxes", "scores", *constants], ["kept"])],
    "suppression",
    [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 4, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 4]),
    ],
    [helper.make_tensor_value_info("kept", TensorProto.INT64, ["number", 3])],
    [numpy_helper.from_array(value, name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
checker.check_model(model, full_check=True)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
converted, reference = onnx2torch.convert(model).eval(), ReferenceEvaluator(model)
# Two objects, each found twice: rows and columns of two opposite corners.
boxes = np.array([[[0, 0, 20, 10], [1, 0, 20, 10], [40, 40, 50, 70], [40, 40, 50, 69]]], np.float32)
scores = np.array([[[0.9, 0.8, 0.7, 0.6]]], np.float32)
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnx2torch", "torch", "onnxruntime")))
for name, order, seen in (
    ("smaller ones first", [0, 1, 2, 3], [0, 2]),
    ("larger column first", [0, 3, 2, 1], [0, 1, 2, 3]),
    ("larger row first", [2, 1, 0, 3], [0, 1, 2, 3]),
    ("both", [2, 3, 0, 1], [0, 1, 2, 3]),
):
    inputs = {"boxes": boxes[..., order], "scores": scores}
    kept = converted(*(torch.from_numpy(value) for value in inputs.values()))[:, 2].tolist()
    right = session.run(None, inputs)[0][:, 2].tolist()
    print(f"{name}: onnx2torch keeps {kept}, ONNX Runtime {right}")
    assert right == [0, 2] == reference.run(None, inputs)[0][:, 2].tolist(), "the behaviour has changed"
    assert kept == seen, "the behaviour has changed"
PYTHON
