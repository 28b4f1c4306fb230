#!/bin/bash
# TVM gives only the best one of TopK's values in files of opset 10, however many are asked for.
#
# Expected: TopK of ONNX's opset 10 has the number k as its second input, as it has in opset 11; up to opset 9 it is an
# attribute.
# Seen with TVM 0.27.0.post1: its ONNX front end treats opset 10 as opset 1. It looks for the attribute, does not find
# it, and takes 1. The five best of ten scores are one score and one index, of shape [1, 1] instead of [1, 5], and
# nothing is said. The same network of opset 11 is right, and so is one of opset 9 with the attribute. ONNX Runtime
# 1.32.0 runs all three as one reckons.
# Why it matters: detectors of opset 10, as in the ONNX model zoo, pick their candidates with TopK; of all the objects
# in a picture one is left.
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

scores = np.array([[3, 7, 1, 9, 0, 5, 8, 2, 6, 4]], np.float32)
right = [[[9.0, 8.0, 7.0, 6.0, 5.0]], [[3, 6, 1, 8, 5]]]


def network(opset: int):
    """The five best scores, and where they are."""
    inputs, attributes = (["scores"], {"k": 5}) if opset < 10 else (["scores", "k"], {})
    outputs = {"best": TensorProto.FLOAT, "places": TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node("TopK", inputs, list(outputs), axis=1, **attributes)],
        "candidates",
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        [helper.make_tensor_value_info(name, kind, [1, 5]) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.array([5]), "k")] if opset >= 10 else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("apache-tvm", "onnxruntime", "onnx")))
for opset in (9, 10, 11):
    model = network(opset)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    by_runtime = [part.tolist() for part in session.run(None, {"scores": scores})]
    machine = relax.VirtualMachine(tvm.compile(from_onnx(model), target="llvm"), tvm.cpu())
    by_tvm = [part.numpy().tolist() for part in machine["main"](tvm.runtime.tensor(scores))]
    print(f"opset {opset}: TVM {by_tvm}, ONNX Runtime {by_runtime}")
    assert by_runtime == right, "the behaviour has changed"
    assert by_tvm == ([[[9.0]], [[3]]] if opset == 10 else right), "the behaviour has changed"
PYTHON
