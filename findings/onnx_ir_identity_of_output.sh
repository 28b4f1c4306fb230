#!/bin/bash
# onnx-ir's IdentityEliminationPass takes an output's name away, so that the network gives one of its outputs twice.
#
# Expected: a network with the outputs map and copy, where copy is an Identity of map, still has the two outputs after
# the pass; the pass knows that an Identity between an input and an output has to stay.
# Seen with onnx-ir 1.1.0: the pass renames the value to copy and puts it into both places. The outputs are then copy
# and copy, and whoever asks for map gets "Invalid output name". The same way an Identity that is all of a branch of If
# goes away, and leaves a file that onnx's checker and ONNX Runtime refuse.
# Why it matters: detectors and segmenters give a map as an answer and as an extra output for training or a second head.
# A pass that only tidies up changes the outputs by name, and onnx-ir itself raises no error.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx-ir==1.1.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from onnx_ir.passes.common import IdentityEliminationPass

image = np.array([[-1, 2, -3, 4]], np.float32)


def value(name: str) -> onnx.ValueInfoProto:
    """A value of the image's shape."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])


def cleaned(nodes: list[onnx.NodeProto], outputs: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The network behind the pass, and the names of its outputs; the one before it is sound."""
    constants = [numpy_helper.from_array(np.array(True), "yes")] if nodes[-1].op_type == "If" else []
    graph = helper.make_graph(nodes, "network", [value("image")], [value(name) for name in outputs], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(outputs, {"image": image})
    assert all(np.array_equal(answer, np.maximum(image, 0)) for answer in answers)
    after = onnx_ir.to_proto(IdentityEliminationPass()(onnx_ir.from_proto(model)).model)
    return after, [output.name for output in after.graph.output]


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnx-ir", "onnx", "onnxruntime")))
relu = helper.make_node("Relu", ["image"], ["map"])
after, outputs = cleaned([relu, helper.make_node("Identity", ["map"], ["copy"])], ["map", "copy"])
print(f"outputs map and copy: after the pass {outputs}")
assert outputs == ["copy", "copy"], "the behaviour has changed"
session = onnxruntime.InferenceSession(after.SerializeToString(), providers=["CPUExecutionProvider"])
try:
    session.run(["map"], {"image": image})
    found = "there"
except Exception as error:
    found = str(error)
print(f"the output map: {found}")
assert "Invalid output name:map" in found, "the behaviour has changed"

branches = [
    helper.make_graph([helper.make_node(kind, ["map"], [kind])], kind, [], [value(kind)])
    for kind in ("Identity", "Neg")
]
choice = helper.make_node("If", ["yes"], ["answer"], then_branch=branches[0], else_branch=branches[1])
after, outputs = cleaned([relu, choice], ["answer"])
try:
    checker.check_model(after, full_check=True)
    found = "sound"
except Exception as error:
    found = str(error).splitlines()[0]
print(f"Identity in a branch of If: {found}")
assert "is not an output of any node in graph" in found, "the behaviour has changed"
PYTHON
