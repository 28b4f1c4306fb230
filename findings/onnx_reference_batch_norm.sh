#!/usr/bin/env bash
# ONNX's reference evaluator mixes the image's own mean and variance into a BatchNormalization of opsets 9 to 13.
#
# Expected: with one output the operator is in test mode, as its text there says: (x - mean) / sqrt(variance).
# Seen with onnx 1.23.2: it takes 0.9 of mean and variance given and 0.1 of the image's (momentum is an attribute with
# a default, and its being there is taken for training). Opsets 14 and 15 are right, and so is ONNX Runtime 1.32.0.
# Why it matters: the evaluator is what others are compared with, and these opsets are those of most older files.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

image = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
values = {"scale": [1, 1], "bias": [0, 0], "mean": [100, 100], "variance": [4, 4]}
stored = [numpy_helper.from_array(np.array(value, dtype=np.float32), name) for name, value in values.items()]
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 2, 2])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2, 2, 2])


def answers(opset: int) -> tuple[float, float]:
    """The first number of the answers of ONNX's reference and ONNX Runtime; -50 is right."""
    node = helper.make_node("BatchNormalization", ["x", *values], ["y"], epsilon=0.0)
    graph = helper.make_graph([node], "norm", [x], [y], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    reference, runtime = ReferenceEvaluator(model).run(None, {"x": image}), session.run(None, {"x": image})
    return round(float(reference[0].flat[0]), 2), round(float(runtime[0].flat[0]), 2)


seen = {opset: answers(opset) for opset in (9, 13, 14, 15)}
print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
print(f"opset: (ONNX's reference, ONNX Runtime) {seen}")
assert all(runtime == -50 for _, runtime in seen.values()), "the behaviour has changed"
wrong = [opset for opset, (reference, _) in seen.items() if reference != -50]
assert wrong == [9, 13], "the behaviour has changed"
PYTHON
