#!/bin/bash
# qonnx's QCDQToQuant cuts off the upper half of the values behind a ReLU on int8.
#
# Expected: the transformation puts one Quant where a file has QuantizeLinear, Clip and DequantizeLinear, and takes the
# bounds of the Clip into account, as its documentation says; the network answers as before.
# Seen with qonnx 1.0.0: the number of bits is that of the values between the bounds, and signed is that of the type.
# int8 between 0 and 127 are 128 values, so that Quant gets 7 bits and a sign, which is -64 to 63: with a scale of 0.1
# the value 12.7 becomes 6.3, and -3 stays -3. Bounds that are no power of two apart, such as uint8 up to 60 for ReLU6,
# become those of the next power, up to 63, so that 6.3 is not cut to 6. Nothing is said. A Clip to -8 and 7, as qonnx
# writes it itself, is right.
# Why it matters: a Clip between the two is where a quantised ReLU or ReLU6 stands. The network that goes on to FINN or
# hls4ml saturates at half of each such layer's range.
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

values = np.float32([-3, -0.5, 0.5, 3, 6.3, 12.7])


def network(kind: type, bounds: tuple[int, int]):
    constants = {"scale": np.float32(0.1), "zero_point": kind(0), "low": kind(bounds[0]), "high": kind(bounds[1])}
    nodes = [
        helper.make_node("QuantizeLinear", ["in", "scale", "zero_point"], ["quantised"]),
        helper.make_node("Clip", ["quantised", "low", "high"], ["clipped"]),
        helper.make_node("DequantizeLinear", ["clipped", "scale", "zero_point"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, [len(values)])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [len(values)])],
        [numpy_helper.from_array(np.array(constant), name) for name, constant in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("qonnx", "onnxruntime", "onnx")))
for kind, bounds, seen in (
    (np.int8, (0, 127), [-3, -0.5, 0.5, 3, 6.3, 6.3]),
    (np.uint8, (0, 60), [0, 0, 0.5, 3, 6.3, 6.3]),
    (np.uint8, (0, 127), [0, 0, 0.5, 3, 6.3, 12.7]),
    (np.int8, (-8, 7), [-0.8, -0.5, 0.5, 0.7, 0.7, 0.7]),
):
    model = network(kind, bounds)
    right = np.clip(np.rint(values / np.float32(0.1)), *bounds) * 0.1
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    before = ModelWrapper(model).transform(InferShapes())
    after = before.transform(QCDQToQuant())
    found = {
        "ONNX Runtime": session.run(None, {"in": values})[0],
        "before": execute_onnx(before, {"in": values})["out"],
        "after": execute_onnx(after, {"in": values})["out"],
    }
    rounded = {name: answer.round(3).tolist() for name, answer in found.items()}
    print(f"{kind.__name__} between {bounds}: {rounded}")
    assert [node.op_type for node in after.graph.node] == ["Quant"], "the behaviour has changed"
    assert all(np.allclose(found[name], right) for name in ("ONNX Runtime", "before")), "ONNX Runtime has changed"
    assert np.allclose(found["after"], seen), "the behaviour has changed"
PYTHON
