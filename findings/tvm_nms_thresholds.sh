#!/bin/bash
# TVM's NonMaxSuppression ignores thresholds that are inputs of the network, and has others than ONNX for absent ones.
#
# Expected: ONNX lets a file give the thresholds for overlap and score as constants or as inputs, and says what is meant
# if they are absent: an overlap of 0, so that all boxes that touch go, and no filter for the score.
# Seen with TVM 0.27.0.post1: a threshold that the caller gives with each call changes nothing; 0.5 is built in for the
# overlap, and 0 for the score, and nothing is said. Without a threshold for the overlap boxes stay that overlap by 40%,
# and without one for the score all boxes with negative scores, such as logits, go. The thresholds as constants are
# right. ONNX Runtime 1.32.0 is right for each, and a reckoning by hand.
# Why it matters: detectors have their thresholds as inputs so that a user can choose between found and false objects;
# with TVM the slider does nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    apache-tvm==0.27.0.post1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 TVM_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
import tvm
from onnx import TensorProto, checker, helper, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

# Boxes 1 and 2 overlap box 0 by 80% and 40%, and each other by half; box 3 is far away.
BOXES = np.array([[[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [20, 20, 30, 30]]], np.float32)
SCORES = np.array([[[0.9, 0.8, 0.7, 0.6]]], np.float32)


def kept(scores: np.ndarray, constants: dict[str, float], given: dict[str, float]) -> dict[str, list[int]]:
    """The boxes that stay, with some thresholds as constants and some as inputs of the network."""
    feed = {"boxes": BOXES, "scores": scores} | {name: np.array([v], np.float32) for name, v in given.items()}
    names = [name if name in constants | given else "" for name in ("overlap", "score")]
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", *names], ["selected"])],
        "detector",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape)) for name, value in feed.items()],
        [helper.make_tensor_value_info("selected", TensorProto.INT64, ["boxes kept", 3])],
        [numpy_helper.from_array(np.array([10]), "most")]
        + [numpy_helper.from_array(np.array([value], np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    machine = relax.VirtualMachine(tvm.compile(from_onnx(model), target="llvm"), tvm.cpu())
    answers = {
        "TVM": machine["main"](*[tvm.runtime.tensor(value) for value in feed.values()]).numpy(),
        "ONNX Runtime": session.run(None, feed)[0],
    }
    return {name: answer[:, 2].tolist() for name, answer in answers.items()}


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("apache-tvm", "onnxruntime", "onnx")))
for scores, constants, given, right, seen in (
    (SCORES, {"overlap": 0.9, "score": 0.0}, {}, [0, 1, 2, 3], [0, 1, 2, 3]),
    (SCORES, {"score": 0.0}, {"overlap": 0.9}, [0, 1, 2, 3], [0, 2, 3]),
    (SCORES, {"score": 0.0}, {"overlap": 0.3}, [0, 3], [0, 2, 3]),
    (SCORES, {"overlap": 0.6}, {"score": 0.75}, [0], [0, 2, 3]),
    (SCORES, {"score": 0.0}, {}, [0, 3], [0, 2, 3]),
    (SCORES - 1, {"overlap": 0.6}, {}, [0, 2, 3], []),
):
    answers = kept(scores, constants, given)
    print(f"scores from {scores.min():.1f} to {scores.max():.1f}, constants {constants}, inputs {given}: {answers}")
    assert answers == {"TVM": seen, "ONNX Runtime": right}, "the behaviour has changed"
PYTHON
