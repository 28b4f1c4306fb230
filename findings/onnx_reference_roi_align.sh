#!/usr/bin/env bash
# ONNX's reference evaluator moves the RoiAlign of opsets 10 to 15 by half a pixel, as only later opsets do by default.
#
# Expected: RoiAlign of opset 10 knows no coordinate_transformation_mode and does not shift; opset 16 added that mode,
# with output_half_pixel for what was before and half_pixel as the new default.
# Seen with onnx 1.23.2: on a ramp, the region from 2 to 6 gives 3.5 instead of 4 in the reference. ONNX Runtime 1.32.0
# and OpenVINO 2026.4.1 give 4, and so does the reference if the node is of opset 16 with output_half_pixel.
# Why it matters: a detector exported to these opsets seems wrong in every runtime, where the yardstick is.
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
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

feeds = {
    "x": np.tile(np.arange(9, dtype=np.float32), (1, 1, 9, 1)),  # each pixel is its column
    "region": np.array([[2, 2, 6, 6]], np.float32),
    "image": np.array([0], np.int64),
}


def pooled(opset: int, **settings: str) -> list[float]:
    """The mean of the region in ONNX's reference, ONNX Runtime and OpenVINO."""
    size = {"output_height": 1, "output_width": 1, "sampling_ratio": 2}
    node = helper.make_node("RoiAlign", list(feeds), ["y"], **size, **settings)
    types = TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64
    inputs = [helper.make_tensor_value_info(k, t, v.shape) for (k, v), t in zip(feeds.items(), types, strict=True)]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 1])
    graph = helper.make_graph([node], "roi", inputs, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = ReferenceEvaluator(model).run(None, feeds), session.run(None, feeds), network(feeds)
    return [round(answer[0].item(), 4) for answer in answers]


seen = {
    "opset 10": pooled(10),
    "opset 15": pooled(15),
    "opset 16 output_half_pixel": pooled(16, coordinate_transformation_mode="output_half_pixel"),
    "opset 16": pooled(16),
}
print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}")
print(f"the mean of columns 2 to 6 in ONNX's reference, ONNX Runtime and OpenVINO: {seen}")
old = [3.5, 4.0, 4.0]
assert list(seen.values()) == [old, old, [4.0] * 3, [3.5] * 3], "the behaviour has changed"
PYTHON
