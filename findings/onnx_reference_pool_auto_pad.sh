#!/usr/bin/env bash
# ONNX's reference evaluator gives pools with auto_pad another size than ONNX's own shape inference says.
#
# Expected: the reference runs an operator as its text says: ceil(size / stride) places for SAME_UPPER and SAME_LOWER,
# and floor((size - dilated kernel) / stride) + 1 for VALID.
# Seen with onnx 1.23.2: MaxPool with SAME_LOWER rounds down (3 places instead of 4 for 7 at stride 2; SAME_UPPER is
# right), and AveragePool with VALID leaves the dilation out (5 places instead of 3 for a window of 3 at dilation 2).
# Why it matters: the evaluator is what runtimes and converters are compared with, and here it is the one that errs.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

image = np.arange(49, dtype=np.float32).reshape(1, 1, 7, 7)


def sizes(operator: str, **settings: str | list[int]) -> tuple[int, int]:
    """The width that ONNX infers, and the width that its reference gives."""
    node = helper.make_node(operator, ["x"], ["y"], **settings)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 7, 7])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["a", "b", "c", "d"])
    model = helper.make_model(helper.make_graph([node], "pool", [x], [y]), opset_imports=[helper.make_opsetid("", 19)])
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim[3].dim_value
    return inferred, ReferenceEvaluator(model).run(None, {"x": image})[0].shape[3]


halved = {"kernel_shape": [2, 2], "strides": [2, 2]}
dilated = {"kernel_shape": [3, 3], "dilations": [2, 2]}
seen = {
    "MaxPool SAME_UPPER": sizes("MaxPool", auto_pad="SAME_UPPER", **halved),
    "MaxPool SAME_LOWER": sizes("MaxPool", auto_pad="SAME_LOWER", **halved),
    "AveragePool NOTSET, dilation 2": sizes("AveragePool", auto_pad="NOTSET", **dilated),
    "AveragePool VALID, dilation 2": sizes("AveragePool", auto_pad="VALID", **dilated),
}
print(f"onnx {onnx.__version__}, (size inferred, size of the reference's answer) for 7 places: {seen}")
assert list(seen.values()) == [(4, 4), (4, 3), (3, 3), (3, 5)], "the behaviour has changed"
PYTHON
