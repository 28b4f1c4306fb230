#!/usr/bin/env bash
# ONNX's version converter turns Upsample and Resize of opset 10 into a Resize that samples at other places.
#
# Expected: the converter keeps what a network answers, or refuses.
# Seen with onnx 1.23.2: up to opset 10 the place in the input is the place in the output / scale ("asymmetric" since
# opset 11); the converter names no mode, and the default since opset 11 is half_pixel. The network is valid, has the
# same size, and interpolates half a pixel off. ONNX Runtime 1.32.0 runs both as they are written.
# Why it matters: old files are converted because tools want newer ones; maps of a segmentation shift without a message.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, version_converter

image = np.array([[[[0, 10, 20, 30]]]], dtype=np.float32)
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 1, 4])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 1, 8])
scales = numpy_helper.from_array(np.array([1, 1, 1, 2], dtype=np.float32), "scales")


def run(model: onnx.ModelProto) -> list[float]:
    """What ONNX Runtime answers."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0].ravel().tolist()


print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
for operator, opset in (("Upsample", 9), ("Resize", 10)):
    node = helper.make_node(operator, ["x", "scales"], ["y"], mode="linear")
    graph = helper.make_graph([node], "up", [x], [y], [scales])
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=5)
    before, after = run(old), run(version_converter.convert_version(old, 17))
    print(f"{operator} of opset {opset}: {before}; converted to 17: {after}")
    assert before == [0, 5, 10, 15, 20, 25, 30, 30], "the behaviour has changed"
    assert after == [0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30], "the behaviour has changed"
PYTHON
