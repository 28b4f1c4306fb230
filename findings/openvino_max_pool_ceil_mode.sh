#!/usr/bin/env bash
# OpenVINO's MaxPool with ceil_mode adds a row of the lowest float where a window lies outside the image.
#
# Expected: windows that would begin behind the image are left out: ONNX says so since opset 22, and so does torch.
# Seen with OpenVINO 2026.4.1 and opset 22: a window of 2 at stride 3 on 9 places gives 4 places, the last -3.4e38; ONNX
# infers 3, and ONNX Runtime 1.32.0 gives 3. AveragePool with the same settings gives 3 in OpenVINO too.
# Why it matters: these are the settings of torch.nn.MaxPool2d(2, 3, ceil_mode=True); a mean over the map is then -1e38.
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

image = np.arange(81, dtype=np.float32).reshape(1, 1, 9, 9)
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 9, 9])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["a", "b", "c", "d"])


def last_rows(operator: str) -> tuple[int, list[float], list[float]]:
    """The size that ONNX infers, and the last row of ONNX Runtime and of OpenVINO."""
    node = helper.make_node(operator, ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1)
    graph = helper.make_graph([node], "pool", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim[3].dim_value
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return inferred, session.run(None, {"x": image})[0][0, 0, -1].tolist(), network(image)[0][0, 0, -1].tolist()


print(f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}; 9 places, window 2, stride 3")
size, right, seen = last_rows("MaxPool")
average = last_rows("AveragePool")
print(f"MaxPool: ONNX infers {size} places; last row in ONNX Runtime {right}, in OpenVINO {seen}")
print(f"AveragePool: {average}")
lowest = float(np.finfo(np.float32).min)
assert size == len(right) == 3 and seen == [lowest] * 4, "the behaviour has changed"
assert average[0] == len(average[1]) == len(average[2]) == 3, "the behaviour has changed"
PYTHON
