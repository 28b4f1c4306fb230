#!/bin/bash
# onnx-graphsurgeon's fold_constants() cuts the factor of a size down to a whole number: 1.5 becomes 1, 0.5 becomes 0.
#
# Expected: folding computes what is constant, and leaves the rest of the network with the answer that it had.
# Seen with onnx-graphsurgeon 0.6.1: between a Cast from int64 to float and one back, it removes both and casts the
# constant to int64. A map of 6x8 that was to be resized to 1.5 times its size keeps 6x8, and nothing is said; with 0.5
# the size is 0, and ONNX Runtime 1.32.0 refuses to run the file. A factor of 2 is right, and so is everything with
# fold_shapes=False, which does without it. The files before are run by ONNX Runtime as one reckons.
# Why it matters: tf.cast(tf.cast(tf.shape(x), tf.float32) * 1.5, tf.int32) is such a pair of casts, and folding with
# onnx-graphsurgeon, also by Polygraphy's "surgeon sanitize --fold-constants", is the usual step before TensorRT. A
# decoder then answers at another size than the one that was trained.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx-graphsurgeon==0.6.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnx_graphsurgeon
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference


def network(factor: float):
    """Nearest neighbours at `factor` times the size of the map, which is open."""
    nodes = [
        helper.make_node("Shape", ["map"], ["shape"], start=2),
        helper.make_node("Cast", ["shape"], ["shape_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["shape_float", "factor"], ["size_float"]),
        helper.make_node("Cast", ["size_float"], ["size"], to=TensorProto.INT64),
        helper.make_node("Concat", ["batch_and_channels", "size"], ["sizes"], axis=0),
        helper.make_node("Resize", ["map", "", "", "sizes"], ["resized"], mode="nearest"),
    ]
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("resized", TensorProto.FLOAT, [1, 3, "new_height", "new_width"])],
        [
            numpy_helper.from_array(np.array(factor, np.float32), "factor"),
            numpy_helper.from_array(np.array([1, 3]), "batch_and_channels"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    return shape_inference.infer_shapes(model)


def size(model) -> tuple[int, ...] | str:
    """The size of the answer for a map of 6x8, or "refused"."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    try:
        return session.run(None, {"map": np.ones((1, 3, 6, 8), np.float32)})[0].shape[2:]
    except Exception as error:
        assert "Scale value should be greater than 0" in str(error), "the behaviour has changed"
        return "refused"


versions = [f"{name} {importlib.metadata.version(name)}" for name in ("onnx-graphsurgeon", "onnxruntime", "onnx")]
print(", ".join(versions))
for factor, seen in ((1.5, (6, 8)), (0.5, "refused"), (2.0, (12, 16))):
    model = network(factor)
    right = (int(6 * factor), int(8 * factor))
    sizes = [size(model)]
    for fold_shapes in (True, False):
        graph = onnx_graphsurgeon.import_onnx(model)
        folded = onnx_graphsurgeon.export_onnx(graph.fold_constants(fold_shapes=fold_shapes).cleanup())
        checker.check_model(folded, full_check=True)
        sizes.append(size(folded))
    print(f"6x8 times {factor}: {sizes[0]}, folded {sizes[1]}, folded with fold_shapes=False {sizes[2]}")
    assert sizes == [right, seen, right], "the behaviour has changed"
PYTHON
