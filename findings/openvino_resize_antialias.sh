#!/usr/bin/env bash
# OpenVINO reads a Resize with antialias=1 from ONNX and resizes without antialiasing, and says nothing.
#
# Expected: an attribute that cannot be carried out is refused, as coordinate_transformation_mode tf_crop_and_resize is.
# Seen with OpenVINO 2026.4.1: stripes one pixel wide become black (the pixels between are left out) and the answer is
# bit for bit that of antialias=0. ONNX Runtime 1.32.0 and ONNX's reference give grey, as antialias=1 asks for.
# Why it matters: a network that resizes its images itself, to get the same everywhere, answers otherwise in OpenVINO.
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

image = np.zeros((1, 1, 8, 32), dtype=np.float32)
image[..., ::4] = 255.0  # every fourth column is white
scales = numpy_helper.from_array(np.array([1, 1, 1, 0.25], dtype=np.float32), "scales")
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 8, 32])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 8, 8])


def ranges(mode: str, antialias: int) -> list[tuple[int, int]]:
    """The darkest and the brightest pixel of an inner row in ONNX's reference, ONNX Runtime and OpenVINO."""
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode=mode, antialias=antialias)
    graph = helper.make_graph([node], "resize", [x], [y], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = ReferenceEvaluator(model).run(None, {"x": image}), session.run(None, {"x": image}), network(image)
    return [(int(answer[0][0, 0, 4, 2:-2].min()), int(answer[0][0, 0, 4, 2:-2].max())) for answer in answers]


print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}")
for mode in ("linear", "cubic"):
    plain, smooth = ranges(mode, 0), ranges(mode, 1)
    print(f"{mode}: darkest and brightest in the three: antialias=0 {plain}, antialias=1 {smooth}")
    assert smooth[0] == smooth[1] != plain[1] and smooth[2] == plain[2], "the behaviour has changed"
PYTHON
