#!/usr/bin/env bash
# ONNX's version converter adapts Softmax to the change of opset 13 on the way up, but not down, and Hardmax not at all.
#
# Expected: since opset 13 these operators take one axis, before they took all axes from it on together; the converter
# writes Flatten and Reshape around Softmax where it comes from opset 12, so it does the like elsewhere, or refuses.
# Seen with onnx 1.23.2: Softmax and LogSoftmax from 13 down to 12, and Hardmax from 12 up to 13, keep their axis and
# change their meaning: probabilities of four places that each had a sum of 1 have it together. Hardmax down is refused.
# Why it matters: networks are converted down for tools that know no newer opset; the answer is wrong and looks sound.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import helper, version_converter

scores = np.random.default_rng(0).normal(size=(1, 3, 2, 2)).astype(np.float32)
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 2, 2])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 2, 2])


def run(model: onnx.ModelProto) -> np.ndarray:
    """What ONNX Runtime answers."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": scores})[0]


def kept(operator: str, opset: int, other: int) -> bool | str:
    """Whether the converted network answers as before."""
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], axis=1)], "scores", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    try:
        converted = version_converter.convert_version(model, other)
    except RuntimeError:
        return "refused"
    return np.allclose(run(model), run(converted), atol=1e-5)


seen = {operator: (kept(operator, 12, 13), kept(operator, 13, 12)) for operator in ("Softmax", "LogSoftmax", "Hardmax")}
print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
print(f"the answer is kept (from 12 to 13, from 13 to 12): {seen}")
expected = {"Softmax": (True, False), "LogSoftmax": (True, False), "Hardmax": (False, "refused")}
assert seen == expected, "the behaviour has changed"
PYTHON
