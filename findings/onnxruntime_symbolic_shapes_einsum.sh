#!/bin/bash
# ONNX Runtime's symbolic shape inference writes the sizes of an Einsum without an arrow, and of a GatherND, wrong.
#
# Expected: the sizes that onnxruntime.tools.symbolic_shape_infer writes into a model are those of what the model gives.
# Einsum without an arrow gives its letters in alphabetical order, as in numpy; GatherND with batch_dims takes one list
# of indices for each entry of a batch.
# Seen with onnxruntime 1.32.0: for Einsum "ji" of 2 x 3 it writes 2 x 3 where 3 x 2 comes out, and for "kj,ik" the two
# sizes exchanged; for GatherND with batch_dims 1 of 2 x 3 x 4 it writes 2 x 3 x 4 and not 2 x 4. With "ji->ij" and with
# batch_dims 0 it is right. onnx's own shape inference is right or leaves the sizes open. Nothing is said.
# Why it matters: the quantizer and the optimizers of transformers run it first, and converters build on the sizes that
# it leaves in the file.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 sympy==1.14.0
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference


def sizes_of(model: onnx.ModelProto) -> tuple:
    shape = model.graph.output[0].type.tensor_type.shape
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in shape.dim)


lists = {"indices": np.array([[1], [2]])}
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnxruntime", "onnx", "numpy")))
for operator, shapes, constants, attributes, right, seen in (
    ("Einsum", [(2, 3)], {}, {"equation": "ji"}, (3, 2), (2, 3)),
    ("Einsum", [(2, 3)], {}, {"equation": "ji->ij"}, (3, 2), (3, 2)),
    ("Einsum", [(3, 4), (2, 3)], {}, {"equation": "kj,ik"}, (2, 4), (4, 2)),
    ("GatherND", [(2, 3, 4)], lists, {"batch_dims": 1}, (2, 4), (2, 3, 4)),
    ("GatherND", [(3, 3, 4)], lists, {"batch_dims": 0}, (2, 3, 4), (2, 3, 4)),
):
    given = {f"map_{number}": np.zeros(shape, np.float32) for number, shape in enumerate(shapes)}
    graph = helper.make_graph(
        [helper.make_node(operator, [*given, *constants], ["answer"], **attributes)],
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in given.items()],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None] * len(right))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, given)[0].shape == right
    if operator == "Einsum":
        assert np.einsum(attributes["equation"], *given.values()).shape == right
    by_onnx = sizes_of(onnx.shape_inference.infer_shapes(model))
    assert all(found in (None, size) for found, size in zip(by_onnx, right, strict=True)), "the behaviour has changed"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    written = sizes_of(SymbolicShapeInference.infer_shapes(model))
    print(f"{operator} {attributes}: {right} comes out, {written} is written")
    assert written == seen, "the behaviour has changed"
PYTHON
