#!/usr/bin/env bash
# OpenVINO runs the Softmax of ONNX's opsets 11 and 12 as if it were the other one that came with opset 13.
#
# Expected: up to opset 12, Softmax takes all axes from the named one on together (a sum of 1 for an image with axis 1);
# from opset 13 on it takes the named axis alone.
# Seen with OpenVINO 2026.4.1: opset 9 and 13 are right, 11 and 12 give what 13 would; ONNX Runtime 1.32.0 is right in
# all. Where no axis is named it is the old one, 1, taken in the new way: neither the old answer nor the new.
# Why it matters: opset 11 was the usual one for years; probabilities of a map still look like probabilities.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import helper

scores = np.random.default_rng(0).normal(size=(1, 3, 2, 2)).astype(np.float32)
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 2, 2])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 2, 2])


def sums(opset: int, **axis: int) -> tuple[float, float]:
    """The sum of the answers of ONNX Runtime and of OpenVINO: 1 if all is taken together, 4 if each place is."""
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], **axis)], "softmax", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return round(float(session.run(None, {"x": scores})[0].sum()), 3), round(float(network(scores)[0].sum()), 3)


seen = {opset: sums(opset, axis=1) for opset in (9, 11, 12, 13)} | {"11, no axis named": sums(11)}
print(f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}")
print(f"opset: (sum in ONNX Runtime, sum in OpenVINO) {seen}")
assert list(seen.values()) == [(1, 1), (1, 4), (1, 4), (4, 4), (1, 4)], "the behaviour has changed"
PYTHON
