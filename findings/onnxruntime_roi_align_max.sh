#!/usr/bin/env bash
# ONNX Runtime's RoiAlign with mode max gives less than every value in the region, and so does ONNX's reference.
#
# Expected: the text says that sampled locations are computed by bilinear interpolation; mode max takes the largest of
# them. For a map of ones that is 1 wherever the region lies.
# Seen with ONNX Runtime 1.32.0 and onnx 1.23.2: 0.25 for a region whose samples lie in the middle of four pixels, as
# each pixel's weighted part is taken for a sample of its own; mode avg gives 1. ONNX Runtime warns of an "incorrect"
# sum that "will be fixed in the next ORT 1.13 release", the reference does not. OpenVINO 2026.4.1 gives 1.
# Why it matters: a detector's features shrink to a quarter where it is not aligned to the pixels, and the answers of
# two runtimes do not match; that the yardstick has the same error makes the right one look wrong.
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

onnxruntime.set_default_logger_severity(3)  # the warning named above is not printed


def pooled(mode: str, corner: float) -> list[float]:
    """The 4 x 4 region from (corner, corner) of a map of ones in ONNX's reference, ONNX Runtime and OpenVINO."""
    feeds = {
        "x": np.ones((1, 1, 9, 9), np.float32),
        "region": np.array([[corner, corner, corner + 4, corner + 4]], np.float32),
        "image": np.array([0], np.int64),
    }
    settings = {"output_height": 1, "output_width": 1, "sampling_ratio": 2, "mode": mode}
    node = helper.make_node("RoiAlign", list(feeds), ["y"], **settings)
    types = TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64
    inputs = [helper.make_tensor_value_info(k, t, v.shape) for (k, v), t in zip(feeds.items(), types, strict=True)]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 1])
    graph = helper.make_graph([node], "roi", inputs, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = ReferenceEvaluator(model).run(None, feeds), session.run(None, feeds), network(feeds)
    return [round(answer[0].item(), 4) for answer in answers]


seen = {(mode, corner): pooled(mode, corner) for mode in ("avg", "max") for corner in (2.0, 2.25, 2.5)}
print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}")
print(f"by mode and corner, ones pooled by ONNX's reference, ONNX Runtime and OpenVINO: {seen}")
assert all(seen["avg", corner] == [1.0, 1.0, 1.0] for corner in (2.0, 2.25, 2.5)), "the behaviour has changed"
right = {2.0: 0.25, 2.25: 0.5625, 2.5: 1.0}  # the largest weight of a pixel
assert all(seen["max", corner] == [part, part, 1.0] for corner, part in right.items()), "the behaviour has changed"
PYTHON
