#!/bin/bash
# qonnx's ConvertDivToMul multiplies by 0 where a network divides whole numbers by a constant.
#
# Expected: the transformation puts a multiplication with 1 / c where a network divides by a constant c; the network
# answers as before.
# Seen with qonnx 1.0.0: 1 / c is taken in the type of the constant, so that a division of int64 or int32 by 2 becomes a
# multiplication by 0, and each answer 0. The file is valid, ONNX Runtime 1.32.0 runs it before and after, and nothing
# is said. Divisions of float are right.
# Why it matters: sizes are halved with whole numbers in networks that resize or cut, where the division stands among
# those of the pixels for which the transformation is called.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    qonnx==1.0.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
from onnx import checker, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.general import ConvertDivToMul
from qonnx.transformation.infer_shapes import InferShapes


def network(constant: np.ndarray):
    kind = helper.np_dtype_to_tensor_dtype(constant.dtype)
    graph = helper.make_graph(
        [helper.make_node("Div", ["in", "constant"], ["out"])],
        "network",
        [helper.make_tensor_value_info("in", kind, [2])],
        [helper.make_tensor_value_info("out", kind, [2])],
        [numpy_helper.from_array(constant, "constant")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def answer(model, value: np.ndarray) -> list[float]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"in": value})[0].tolist()


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("qonnx", "onnxruntime", "onnx")))
size = [480, 640]
for kind, divisor, seen in (
    (np.int64, 2, [0, 0]),
    (np.int32, 4, [0, 0]),
    (np.int64, 1, size),
    (np.float32, 2, [240, 320]),
):
    model = network(np.array([divisor], kind))
    after = ModelWrapper(model).transform(InferShapes()).transform(ConvertDivToMul()).model
    found = {"before": answer(model, np.array(size, kind)), "after": answer(after, np.array(size, kind))}
    print(f"{size} of {kind.__name__} by {divisor}: {found}")
    assert [node.op_type for node in after.graph.node] == ["Mul"], "the behaviour has changed"
    assert found == {"before": [each // divisor for each in size], "after": seen}, "the behaviour has changed"
PYTHON
