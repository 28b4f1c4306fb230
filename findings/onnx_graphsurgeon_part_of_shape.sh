#!/bin/bash
# onnx-graphsurgeon's fold_constants() takes a part of a shape for the whole of it.
#
# Expected: ONNX's Shape of opset 15 and later gives the sizes from its attribute start to its attribute end; the batch
# size is Shape with start 0 and end 1. Folded to a constant it is one number.
# Seen with onnx-graphsurgeon 0.6.1: if the sizes are known, the constant has all of them. A network that flattens its
# maps to (batch, -1) then answers with shape (2, 3, 4, 4, 1) instead of (2, 48), and nothing is said; one that resizes
# to the height and width of another map cannot be loaded by ONNX Runtime 1.32.0. Both are right before, and with
# fold_shapes=False. Shape and Gather, as files of older opsets have it, is folded rightly.
# Why it matters: torch.onnx.export writes the size of one axis with start and end. Once somebody fixes the size of the
# image and folds, which is the usual way to TensorRT, the features of the head have another shape.
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
from onnx import TensorProto, checker, helper, numpy_helper

MAPS = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
FLATTEN = [
    helper.make_node("Concat", ["batch", "rest"], ["shape"], axis=0),
    helper.make_node("Reshape", ["maps", "shape"], ["answer"]),
]
RESIZE = [
    helper.make_node("Concat", ["batch_and_channels", "size"], ["sizes"], axis=0),
    helper.make_node("Resize", ["maps", "", "", "sizes"], ["answer"], mode="nearest"),
]
NETWORKS = {
    "flatten, Shape with start and end": [helper.make_node("Shape", ["maps"], ["batch"], start=0, end=1), *FLATTEN],
    "flatten, Shape and Gather": [
        helper.make_node("Shape", ["maps"], ["whole"]),
        helper.make_node("Gather", ["whole", "zero"], ["batch"]),
        *FLATTEN,
    ],
    "resize, Shape with start": [helper.make_node("Shape", ["image"], ["size"], start=2), *RESIZE],
}


def network(nodes: list, rank: int):
    graph = helper.make_graph(
        nodes,
        "network",
        [
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, [2, 3, 4, 4]),
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 8, 8]),
        ],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None] * rank)],
        [
            numpy_helper.from_array(np.array([-1]), "rest"),
            numpy_helper.from_array(np.array([0]), "zero"),
            numpy_helper.from_array(np.array([2, 3]), "batch_and_channels"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def shape(model) -> tuple[int, ...] | str:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {"maps": MAPS, "image": np.ones((2, 3, 8, 8), np.float32)}
        return session.run(None, {given.name: feed[given.name] for given in session.get_inputs()})[0].shape
    except Exception as error:
        assert "sizes" in str(error), "the behaviour has changed"
        return "cannot be loaded"


versions = [f"{name} {importlib.metadata.version(name)}" for name in ("onnx-graphsurgeon", "onnxruntime", "onnx")]
print(", ".join(versions))
for (name, nodes), right, seen in zip(
    NETWORKS.items(),
    ((2, 48), (2, 48), (2, 3, 8, 8)),
    ((2, 3, 4, 4, 1), (2, 48), "cannot be loaded"),
    strict=True,
):
    model = network(nodes, len(right))
    shapes = [shape(model)]
    for fold_shapes in (True, False):
        graph = onnx_graphsurgeon.import_onnx(model).fold_constants(fold_shapes=fold_shapes).cleanup()
        shapes.append(shape(onnx_graphsurgeon.export_onnx(graph)))
    print(f"{name}: {shapes[0]}, folded {shapes[1]}, folded with fold_shapes=False {shapes[2]}")
    assert shapes == [right, seen, right], "the behaviour has changed"
PYTHON
