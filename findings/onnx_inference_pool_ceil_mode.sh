#!/bin/bash
# onnx's shape inference gives a pool with ceil_mode a row and a column that the pool does not have.
#
# Expected: the inferred size is that of the answer. ONNX says that windows that would start in the padding at the end
# are left out, and its reference evaluator and ONNX Runtime leave them out, as PyTorch does.
# Seen with onnx 1.23.2: the inference rounds up and leaves no window out. A 2x2 pool of stride 2 with padding 1 makes
# 5x5 of 9x9 and is said to make 6x6; one of a single place and stride 2 makes 4x4 of 8x8 and is said to make 5x5.
# Where the last window starts inside of the map, the two agree. strict_mode finds nothing to say. ONNX Runtime 1.32.0
# believes the inference when it folds constants: a Resize to twice the size of the pooled map, which the file computes
# from Shape, gives 12x12 for a map of 5x5, and 10x10 with optimisations off.
# Why it matters: networks for segmentation enlarge a map to the size of another one like this. The answer has another
# size and other numbers, depending on whether the runtime optimises, and there is only a warning.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 Pillow==13.0.0
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator


def sides(kind: str, side: int, kernel: int, stride: int, padding: int) -> dict[str, int]:
    """The side of the pooled map: windows that start in the map or in the padding before it, and what others say."""
    padded, starts = side + 2 * padding, range(0, side + padding, stride)
    right = 1 + next(place for place, start in enumerate(starts) if start + kernel >= padded or start == starts[-1])
    pool = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4, "ceil_mode": 1}
    graph = helper.make_graph(
        [
            helper.make_node(kind, ["image"], ["pooled"], **pool),
            helper.make_node("Shape", ["pooled"], ["sizes"]),
            helper.make_node("Mul", ["sizes", "factors"], ["twice"]),
            helper.make_node("Resize", ["pooled", "", "", "twice"], ["answer"], mode="nearest"),
        ],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, side, side])],
        [
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, 1, "rows", "columns"]),
            helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 1, "rows of answer", "columns of answer"]),
        ],
        [numpy_helper.from_array(np.array([1, 1, 2, 2]), "factors")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    checker.check_model(model, full_check=True)
    inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    image = {"image": np.arange(side * side, dtype=np.float32).reshape(1, 1, side, side)}
    found = {"by hand": right}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for words, level in (
        ("optimised", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL),
        ("not optimised", onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL),
    ):
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        pooled, answer = session.run(None, image)
        assert pooled.shape[2] == right
        found[f"twice, {words}"] = answer.shape[2]
    found["reference"] = ReferenceEvaluator(model).run(["pooled"], image)[0].shape[2]
    shapes = {value.name: value.type.tensor_type.shape for value in inferred.graph.output}
    found["inferred"] = shapes["pooled"].dim[2].dim_value
    return found


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnx", "onnxruntime")))
for side, kernel, stride, padding, right, seen in (
    (9, 3, 2, 0, 4, 4),
    (8, 3, 2, 0, 4, 4),
    (9, 2, 2, 1, 5, 6),
    (8, 1, 2, 0, 4, 5),
    (9, 2, 3, 0, 3, 4),
):
    for kind in ("MaxPool", "AveragePool"):
        found = sides(kind, side, kernel, stride, padding)
        print(f"{kind} of {side}x{side}, kernel {kernel}, stride {stride}, padding {padding}: {found}")
        assert found["by hand"] == found["reference"] == right and found["twice, not optimised"] == 2 * right
        assert found["inferred"] == seen and found["twice, optimised"] == 2 * seen, "the behaviour has changed"
PYTHON
