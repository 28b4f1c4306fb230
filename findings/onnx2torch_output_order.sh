#!/bin/bash
# onnx2torch gives the outputs of one node in the order of the node, and all of them, whatever the network asks for.
#
# Expected: a network whose outputs are first the classes and then the scores of a TopK answers in that order, and one
# that gives the classes only gives one tensor.
# Seen with onnx2torch 1.5.15: the converted network gives (scores, classes) in both cases, and nothing is said. Two
# halves of a Split that a network gives as (right, left) come as (left, right); they have one shape and type, so that
# no later check can tell. ONNX Runtime 1.32.0 is right for each file. An Identity behind each output does without it.
# Why it matters: "classes, scores = network(images)" is what the file promises.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx2torch==1.5.15 torch==2.15.0 torchvision==0.29.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnx2torch
import onnxruntime
import torch
from onnx import TensorProto, checker, helper, numpy_helper

logits = np.array([[3, 9, 1, 7], [8, 2, 6, 4]], np.float32)


def answers(nodes: list, outputs: dict[str, int]) -> tuple[list, list]:
    """What ONNX Runtime and the converted network give, as lists."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info(name, kind, [2, 2]) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.array([2]), "two")] if nodes[0].op_type == "TopK" else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    right = session.run(None, {"logits": logits})
    with torch.no_grad():
        answer = onnx2torch.convert(model).eval()(torch.from_numpy(logits))
    answer = [answer] if isinstance(answer, torch.Tensor) else list(answer)
    return [value.tolist() for value in right], [value.tolist() for value in answer]


top = helper.make_node("TopK", ["logits", "two"], ["scores", "classes"])
halves = helper.make_node("Split", ["logits"], ["left", "right"], axis=1)
copies = [helper.make_node("Identity", [name], [f"{name}_copy"]) for name in ("left", "right")]
real, whole = TensorProto.FLOAT, TensorProto.INT64
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnx2torch", "torch", "onnxruntime")))
kinds = {}
for nodes, outputs in (
    ([top], {"scores": real, "classes": whole}),
    ([top], {"classes": whole, "scores": real}),
    ([top], {"classes": whole}),
    ([halves], {"left": real, "right": real}),
    ([halves], {"right": real, "left": real}),
    ([halves, *copies], {"right_copy": real, "left_copy": real}),
):
    right, answer = answers(nodes, outputs)
    name = ", ".join(outputs)
    kinds[name] = "right" if answer == right else "exchanged" if answer == right[::-1] else "more than asked for"
    print(f"{name}: {right}, converted {answer}: {kinds[name]}")
assert list(kinds.values()) == ["right", "exchanged", "more than asked for"] + ["right", "exchanged", "right"], (
    "the behaviour has changed"
)
assert answers([top], {"classes": whole})[1][1] == [[1, 3], [0, 2]], "the behaviour has changed"
PYTHON
