#!/bin/bash
# onnxslim takes a factor for each column behind a convolution for one of each channel if the numbers of both agree.
#
# Expected: ONNX broadcasts from the right: a factor of shape [21] belongs to the columns of [1, 21, 21, 21], one of
# shape [21, 1] to its rows, and neither can go into the weights of the convolution.
# Seen with onnxslim 0.1.98: both go there, as if they were [21, 1, 1], and the network answers otherwise; on a map of
# 22 columns nothing is merged, and all is right. onnxsim 0.8.1 is right for each. ONNX Runtime 1.32.0 runs them all.
# Why it matters: DeepLab at 321 pixels with output stride 16 has 21 classes on a map of 21x21. A window that lets the
# scores fade towards the border, for tiles, then weighs classes instead of places, and nothing is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnxslim==0.1.98 onnxsim==0.8.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
import onnxsim
import onnxslim
from onnx import TensorProto, checker, helper, numpy_helper

CLASSES = 21
random = np.random.default_rng(0)
window = np.hanning(CLASSES + 2)[1:-1].astype(np.float32)
weight = random.standard_normal((CLASSES, 8, 1, 1)).astype(np.float32)


def network(factor: np.ndarray, columns: int):
    size = (CLASSES, columns)
    nodes = [
        helper.make_node("Conv", ["features", "weight"], ["scores"]),
        helper.make_node("Mul", ["scores", "factor"], ["weighted"]),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 8, *size])],
        [helper.make_tensor_value_info("weighted", TensorProto.FLOAT, [1, CLASSES, *size])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(factor, "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def answer(model, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})[0]


versions = [f"{name} {importlib.metadata.version(name)}" for name in ("onnxslim", "onnxsim", "onnxruntime")]
print(", ".join(versions))
wrong, kinds = {}, {}
for name, factor, columns in (
    ("[21, 1, 1]", window[:, None, None], CLASSES),
    ("[21]", window, CLASSES),
    ("[21, 1]", window[:, None], CLASSES),
    ("[22]", np.append(window, window[-1]), CLASSES + 1),
):
    model = network(factor, columns)
    features = random.standard_normal((1, 8, CLASSES, columns)).astype(np.float32)
    right = answer(model, features)
    by_hand = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], features) * factor
    assert np.abs(right - by_hand).max() < 1e-4, "the behaviour has changed"
    simple, _ = onnxsim.simplify(model)
    slim = onnxslim.slim(model)
    assert np.abs(answer(simple, features) - right).max() < 1e-4, "the behaviour has changed"
    slimmed = answer(slim, features)
    wrong[name], kinds[name] = float(np.abs(slimmed - right).max()), [node.op_type for node in slim.graph.node]
    print(f"factor {name} on {columns} columns: {kinds[name]}, {wrong[name]:.6f} off")
    if columns == CLASSES:
        of_channels = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], features) * window[:, None, None]
        assert np.abs(slimmed - of_channels).max() < 1e-4, "the behaviour has changed"
assert kinds["[21]"] == kinds["[21, 1]"] == ["Conv"] and kinds["[22]"] == ["Conv", "Mul"], "the behaviour has changed"
assert wrong["[21]"] > 1 and wrong["[21, 1]"] > 1, "the behaviour has changed"
assert wrong["[21, 1, 1]"] < 1e-4 and wrong["[22]"] < 1e-4, "the behaviour has changed"
PYTHON
