#!/usr/bin/env bash
# OpenVINO's NonMaxSuppression drops boxes whose overlap equals the threshold: at 0, boxes that do not overlap at all.
#
# Expected: ONNX suppresses boxes whose IoU is strictly greater than iou_threshold, and keeps those at the threshold. So
# does ONNX's reference, and so says OpenVINO's text of its own operator.
# Seen with OpenVINO 2026.4.1: of three boxes far apart one is left with iou_threshold 0, which is also ONNX's default;
# a box with an IoU of exactly 0.5 goes at a threshold of 0.5. ONNX Runtime 1.32.0 is right.
# Why it matters: a detector that lets no boxes overlap finds one object for each class in OpenVINO.
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
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def kept(boxes: list[list[float]], threshold: float | None) -> list[list[int]]:
    """The boxes kept by ONNX's reference, ONNX Runtime and OpenVINO, without iou_threshold if it is None."""
    feeds = {"boxes": np.array([boxes], np.float32), "scores": np.array([[[0.9, 0.8, 0.7][: len(boxes)]]], np.float32)}
    constants = [numpy_helper.from_array(np.array([10], np.int64), "most")]
    if threshold is not None:
        constants.append(numpy_helper.from_array(np.array([threshold], np.float32), "threshold"))
    inputs = [*feeds, *(constant.name for constant in constants)]
    places = [helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v.shape) for k, v in feeds.items()]
    answer = helper.make_tensor_value_info("kept", onnx.TensorProto.INT64, ["n", 3])
    node = helper.make_node("NonMaxSuppression", inputs, ["kept"])
    graph = helper.make_graph([node], "nms", places, [answer], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    reference = [] if threshold is None else [ReferenceEvaluator(model).run(None, feeds)]  # it needs the threshold
    answers = [*reference, session.run(None, feeds), network(feeds)]
    return [sorted(answer[0][:, 2].tolist()) for answer in answers]


APART = [[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]
HALVES = [[0, 0, 10, 10], [0, 0, 10, 5]]
seen = {
    "three apart, threshold 0": kept(APART, 0.0),
    "three apart, threshold by default": kept(APART, None),
    "IoU 0.5, threshold 0.5": kept(HALVES, 0.5),
    "IoU 0.5, threshold 0.51": kept(HALVES, 0.51),
    "IoU 0.5, threshold 0.49": kept(HALVES, 0.49),
}
print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}")
for case, boxes in seen.items():
    print(f"{case}: kept by {'the reference, ' * (len(boxes) == 3)}ONNX Runtime, OpenVINO: {boxes}")
right = [[0, 1, 2], [0, 1, 2], [0, 1], [0, 1], [0]]
assert [boxes[-2] for boxes in seen.values()] == right, "the behaviour has changed"
assert [boxes[-1] for boxes in seen.values()] == [[0], [0], [0], [0, 1], [0]], "the behaviour has changed"
assert all(boxes[0] == boxes[-2] for boxes in seen.values()), "the behaviour has changed"
PYTHON
