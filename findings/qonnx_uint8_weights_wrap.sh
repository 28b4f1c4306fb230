#!/bin/bash
# qonnx's QCDQToQuant makes large positive weights of the negative ones if the file holds them as uint8.
#
# Expected: the transformation puts qonnx's Quant where a file has QuantizeLinear and DequantizeLinear, and the network
# answers as before. ONNX's DequantizeLinear is (x - x_zero_point) * x_scale, with a difference below 0 if x is.
# Seen with qonnx 1.0.0: the difference is taken in the type of the weights. In uint8, 100 - 128 is 228 instead of -28:
# with a scale of 0.5 the weight -14 becomes 63.5, and so does each negative one. int8 weights with another zero point
# than 0 wrap as well. Nothing is said. Weights with a zero point of 0 stay as they are. The answers are those of
# qonnx's own execute_onnx() before and after; ONNX Runtime 1.32.0 runs the file as before.
# Why it matters: uint8 with a zero point near 128 is a usual type of weights, such as QuantType.QUInt8 of ONNX
# Runtime's quantize_static(), and it is the way from such files to FPGAs with FINN and hls4ml.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    qonnx==1.0.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant

scale = np.float32(0.5)
image = np.eye(4, dtype=np.float32)  # the answer is the weights


def network(weights: np.ndarray, zero_point: int):
    nodes = [
        helper.make_node("DequantizeLinear", ["quantised", "scale", "zero_point"], ["weights"]),
        helper.make_node("MatMul", ["image", "weights"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [4, 1])],
        [
            numpy_helper.from_array(weights.reshape(4, 1), "quantised"),
            numpy_helper.from_array(np.array(scale), "scale"),
            numpy_helper.from_array(np.array(zero_point, weights.dtype), "zero_point"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("qonnx", "onnxruntime", "onnx")))
for weights, zero_point, seen in (
    (np.array([100, 128, 156, 250], np.uint8), 128, [63.5, 0.0, 14.0, 61.0]),
    (np.array([-100, 10, 60, 127], np.int8), 50, [38.5, -20.0, 5.0, 38.5]),
    (np.array([-100, 10, 60, 127], np.int8), 0, [-50.0, 5.0, 30.0, 63.5]),
):
    model = network(weights, zero_point)
    right = ((weights.astype(float) - zero_point) * scale).tolist()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    before = ModelWrapper(model).transform(InferShapes())
    after = before.transform(QCDQToQuant())
    found = {
        "ONNX Runtime": session.run(None, {"image": image})[0],
        "before": execute_onnx(before, {"image": image})["answer"],
        "after": execute_onnx(after, {"image": image})["answer"],
    }
    found = {name: answer.ravel().tolist() for name, answer in found.items()}
    print(f"{weights.dtype} {weights.tolist()}, zero point {zero_point}: {found}")
    assert [node.op_type for node in after.graph.node] == ["Quant", "MatMul"], "the behaviour has changed"
    assert found == {"ONNX Runtime": right, "before": right, "after": seen}, "the behaviour has changed"
PYTHON
