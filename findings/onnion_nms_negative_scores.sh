#!/bin/bash
# onnion drops all boxes with a score of 0 or less if NonMaxSuppression has no threshold for scores.
#
# Expected: score_threshold is optional; without it no box is dropped for its score, as in ONNX Runtime.
# Seen with onnion-rt 0.8.0: it takes 0 for a threshold that is absent, and wants scores above it. Boxes whose scores
# are logits or logarithms are lost if they are not above 0; nothing is said.
# Why it matters: networks give logits, and non-maximum suppression needs only their order. With log-softmax no score is
# above 0, and the program finds nothing in any image.
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
boxes = np.array([[[0, 0, 10, 10], [0, 1, 10, 11], [20, 20, 30, 30], [40, 40, 50, 50]]], np.float32)
nodes = [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap"], ["answer"])]
constants = {"most": np.array([10]), "overlap": np.array([0.5], np.float32)}
probabilities = np.array([0.9, 0.8, 0.3, 0.5])
forms = {
    "probabilities": (probabilities, [0, 3, 2]),
    "logits": (np.log(probabilities / (1 - probabilities)), [0]),
    "logarithms": (np.log(probabilities), []),
}
for name, (scores, left) in forms.items():
    given = {"boxes": boxes, "scores": scores.astype(np.float32)[None, None]}
    runtime, found = answers(name, nodes, given, TensorProto.INT64, constants)
    kept, seen = runtime[:, 2].tolist(), [box[2] for box in found.tolist()]
    print(f"{name} {scores.round(2).tolist()}: ONNX Runtime keeps {kept}, onnion {seen}")
    assert kept == [0, 3, 2]  # the second overlaps with the first
    assert seen == left, "the behaviour has changed"
PYTHON
