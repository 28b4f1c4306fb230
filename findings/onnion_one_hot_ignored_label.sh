#!/bin/bash
# onnion marks a class for labels that have none: OneHot takes the rest of the label divided by the number of classes.
#
# Expected: "any entries in the indices input outside the range [-depth, depth-1] result in one-hot representation with
# all values off": the label 255 of 4 classes marks nothing, as in ONNX Runtime.
# Seen with onnion-rt 0.8.0: 255 marks class 3, and 4 marks class 0.
# Why it matters: 255 stands for pixels to be ignored in masks of Pascal VOC and Cityscapes. They become pixels of a
# class, and which one depends on the number of classes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-compile --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnion==0.8.1 onnion-rt==0.8.0 onnx==1.22.0 onnxruntime==1.23.2 numpy==1.26.4
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib
import importlib.metadata
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def answers(name: str, nodes: list, given: dict, kind: int, constants: dict) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime and the program that onnion makes say."""
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(key, kinds[str(value.dtype)], value.shape) for key, value in given.items()],
        [helper.make_tensor_value_info("answer", kind, [None] * 2)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, f"{name}.onnx")
    subprocess.run([sys.executable, "-m", "onnion.main", f"{name}.onnx", "-o", f"{name}.py"], check=True)
    (found,) = importlib.import_module(name).init_graph().run(*given.values())
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, given)[0], found


packages = ("onnion", "onnion-rt", "onnxruntime", "onnx", "numpy")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
labels = np.array([0, 3, 4, 255, -1])
marks = np.array([0, 1], np.float32)
nodes = [helper.make_node("OneHot", ["labels", "classes", "marks"], ["answer"])]
for classes, wrong in ((4, {4: [0], 255: [3]}), (5, {255: [0]}), (21, {255: [3]})):
    constants = {"classes": np.array(classes), "marks": marks}
    runtime, found = answers(f"labels_{classes}", nodes, {"labels": labels}, TensorProto.FLOAT, constants)
    assert runtime.shape == found.shape == (5, classes)
    right = np.zeros((5, classes))
    for row, label in enumerate(labels.tolist()):
        if -classes <= label < classes:
            right[row, label] = 1
    assert (runtime == right).all()
    seen = {}
    for row, label in enumerate(labels.tolist()):
        if (found[row] != right[row]).any():
            seen[label] = np.flatnonzero(found[row]).tolist()
    print(f"{classes} classes: ONNX Runtime marks nothing for labels beyond them, onnion marks {seen}")
    assert seen == wrong, "the behaviour has changed"
PYTHON
