#!/usr/bin/env bash
# ONNX Runtime's quantised AveragePool divides by places behind the image's border; in float it does not.
#
# Expected: quantize_static() keeps an answer up to the rounding: the mean of ones is 1.
# Seen with ONNX Runtime 1.32.0: with ceil_mode and count_include_pad (and no padding at all) the last window of 2 on 5
# ones holds one pixel and nothing else. Its mean is 1 in float and in the QDQ format, and 1/2 in the QOperator format.
# Why it matters: the last row and column of such a layer are halved; the error is taken for that of quantisation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" python3 - <<'PYTHON'
import logging

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

image = np.ones((1, 1, 5, 5), dtype=np.float32)
logging.disable(logging.WARNING)


class Ones(CalibrationDataReader):
    def __init__(self) -> None:
        self.images = iter([{"x": image}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.images, None)


def last_row(path: str) -> list[float]:
    """The last row of the answer to ones."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0][0, 0, -1].round(2).tolist()


x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 5, 5])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 3, 3])
settings = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1}
graph = helper.make_graph([helper.make_node("AveragePool", ["x"], ["y"], **settings)], "pool", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "float.onnx")
quantize_static("float.onnx", "qdq.onnx", Ones(), quant_format=QuantFormat.QDQ)
quantize_static("float.onnx", "qoperator.onnx", Ones(), quant_format=QuantFormat.QOperator)
seen = {name: last_row(f"{name}.onnx") for name in ("float", "qdq", "qoperator")}
print(f"ONNX Runtime {onnxruntime.__version__}, last row: {seen}")
assert seen["float"] == seen["qdq"] == [1, 1, 1], "the behaviour has changed"
assert np.allclose(seen["qoperator"], [0.5, 0.5, 0.25], atol=0.02), "the behaviour has changed"
PYTHON
