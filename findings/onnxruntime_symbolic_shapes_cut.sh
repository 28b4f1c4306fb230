#!/bin/bash
# ONNX Runtime's symbolic shape inference gives parts of a Split and a mirrored Slice other sizes than the network has.
#
# Expected: 10 channels split in 4 parts (num_outputs of opset 18) are 3, 3, 3 and 1, as ONNX says; a map of 9 columns
# that is mirrored (start -1, step -1, and an end of -10 or below) has 9 columns. ONNX Runtime computes so.
# Seen with ONNX Runtime 1.32.0: SymbolicShapeInference writes 2, 2, 2 and 2 for the parts, and for the columns 0 if the
# end is -10, 8 if it is -100, and 9 only if it is the smallest of the 32-bit numbers or below. A split divides and
# drops the rest; an end in front of the first column is put on that column, which is left out then.
# Why it matters: the shapes go into the file, where quantisation, converters and other runtimes take them for true.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-compile --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnxruntime==1.32.0 onnx==1.23.2 sympy==1.14.0 packaging==26.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference


def sizes(node: onnx.NodeProto, shape: list[int], constants: dict) -> tuple[list, list]:
    """The sizes of a node's outputs in ONNX Runtime, and those that are inferred."""
    graph = helper.make_graph(
        [node],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output],
        [numpy_helper.from_array(np.array(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(model), full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": np.zeros(shape, np.float32)})
    inferred = SymbolicShapeInference.infer_shapes(model)
    outputs = [[axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in inferred.graph.output]
    return [list(value.shape) for value in found], outputs


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnxruntime", "onnx", "sympy")))
parts = helper.make_node("Split", ["image"], ["first", "second", "third", "fourth"], axis=1, num_outputs=4)
for channels, right, seen in ((12, [3, 3, 3, 3], [3, 3, 3, 3]), (10, [3, 3, 3, 1], [2, 2, 2, 2])):
    computed, inferred = sizes(parts, [1, channels, 4, 6], {})
    print(f"{channels} channels in 4 parts: computed {[size[1] for size in computed]}, "
          f"inferred {[size[1] for size in inferred]}")
    assert [size[1] for size in computed] == right
    assert [size[1] for size in inferred] == seen, "the behaviour has changed"
cut = helper.make_node("Slice", ["image", "start", "end", "axis", "step"], ["cut"])
for step, end, right, seen in ((-1, -(2**31), 9, 9), (-1, -100, 9, 8), (-1, -10, 9, 0), (-2, -100, 5, 4)):
    constants = {"start": [-1], "end": [end], "axis": [3], "step": [step]}
    computed, inferred = sizes(cut, [1, 3, 8, 9], constants)
    print(f"9 columns backwards, step {step}, end {end}: computed {computed[0][3]}, inferred {inferred[0][3]}")
    assert computed[0][3] == len(range(9)[-1:end:step]) == right
    assert inferred[0][3] == seen, "the behaviour has changed"
PYTHON
