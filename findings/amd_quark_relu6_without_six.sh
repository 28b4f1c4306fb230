#!/bin/bash
# amd-quark's pass onnx_convert_clip_to_relu makes a ReLU of every Clip that starts at 0 or more, whatever its maximum.
#
# Expected: the pass says that it replaces a Clip only if its minimum is 0 or more, and "its maximum bound does not
# prevent Relu equivalence". ReLU6, Clip from 0 to 6, is no ReLU, nor is a Clip from 1 to 6.
# Seen with amd-quark 0.13: both become ReLU, without a warning: 9 stays 9, and 0.5 is no longer lifted to 1. Only a
# Clip without a maximum is the same before and after, as ONNX Runtime 1.32.0 runs them. One from -1 is left alone.
# Why it matters: all activations of MobileNetV2 and V1 are ReLU6. The pass is one of those of quark.shapeshifter, which
# prepare a float network for quantisation; the float accuracy is lost before the first number is quantised.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    amd-quark==0.13 torch==2.15.0 onnx==1.22.0 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 QUARK_LOG_LEVEL=warning python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from quark.shapeshifter import RunConfig, shapeshifter

VALUES = np.array([[-5, 0.5, 3, 9]], np.float32)


def network(least: float, most: float | None):
    bounds = {"least": least} | ({} if most is None else {"most": most})
    graph = helper.make_graph(
        [helper.make_node("Clip", ["values", *bounds], ["clipped"])],
        "activation",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("clipped", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.array(bound, np.float32), name) for name, bound in bounds.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def answer(model) -> list[float]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"values": VALUES})[0][0].tolist()


print(", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("amd-quark", "onnxruntime", "onnx")))
for least, most, kind, seen in (
    (0.0, 6.0, "Relu", [0.0, 0.5, 3.0, 9.0]),
    (1.0, 6.0, "Relu", [0.0, 0.5, 3.0, 9.0]),
    (0.0, None, "Relu", [0.0, 0.5, 3.0, 9.0]),
    (-1.0, 6.0, "Clip", [-1.0, 0.5, 3.0, 6.0]),
):
    model = network(least, most)
    before = answer(model)
    changed = shapeshifter(RunConfig(passes={"onnx_convert_clip_to_relu": {"convert_clip_to_relu": True}}), model=model)
    kinds, after = [node.op_type for node in changed.graph.node], answer(changed)
    print(f"Clip from {least} to {most}: {before}, then {kinds}: {after}")
    right = np.clip(VALUES[0], least, most).tolist()
    assert before == right and kinds == [kind] and after == seen, "the behaviour has changed"
PYTHON
