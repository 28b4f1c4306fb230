#!/usr/bin/env bash
# OpenVINO's AveragePool with ceil_mode and counted padding divides by places that are not even padding.
#
# Expected: count_include_pad counts the padding, not what lies behind it, as in torch: the mean of the last window
# (the last pixel, one place of padding, and nothing) of an image of ones is 1/2.
# Seen with OpenVINO 2026.4.1: it is 1/3. ONNX Runtime 1.32.0 and ONNX's reference say 1/2. Without ceil_mode, or
# without counted padding, OpenVINO agrees with them.
# Why it matters: the last row and column of each such layer are too dark, and no size or message tells of it.
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
from onnx.reference import ReferenceEvaluator

image = np.ones((1, 1, 1, 8), dtype=np.float32)
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 1, 8])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["a", "b", "c", "d"])


def last_means(ceil_mode: int, count_include_pad: int) -> list[float]:
    """The last mean in ONNX's reference, ONNX Runtime and OpenVINO: window 3, stride 2, one place of padding."""
    settings = {"kernel_shape": [1, 3], "strides": [1, 2], "pads": [0, 1, 0, 1]}
    settings |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    graph = helper.make_graph([helper.make_node("AveragePool", ["x"], ["y"], **settings)], "pool", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = ReferenceEvaluator(model).run(None, {"x": image}), session.run(None, {"x": image}), network(image)
    return [round(float(answer[0][0, 0, 0, -1]), 3) for answer in answers]


seen = {(ceil, count): last_means(ceil, count) for ceil in (0, 1) for count in (0, 1)}
print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}")
print(f"(ceil_mode, count_include_pad): last mean in the three {seen}")
expected = {(0, 0): [1, 1, 1], (0, 1): [1, 1, 1], (1, 0): [1, 1, 1], (1, 1): [0.5, 0.5, 0.333]}
assert seen == expected, "the behaviour has changed"
PYTHON
