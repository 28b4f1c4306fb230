#!/bin/bash
# onnxconverter-common gives a segmenter float16 outputs with keep_io_types=True, if its last layer enlarges the scores.
#
# Expected: with keep_io_types=True inputs and outputs stay float32, whatever the layers are.
# Seen with onnxconverter-common 1.16.0: so it is for a network that ends with a convolution. Resize stays in float32,
# as its list of such operators has it; what it gives is cast to float16, and that cast is the network's last node. The
# converter of onnxruntime.transformers in ONNX Runtime 1.32.0, which has the same argument, keeps float32.
# Why it matters: DeepLab and others end with an enlargement of the scores. A program that reads the buffer as float32,
# in C++ or on a phone, gets nonsense, and one in Python computes its softmax and its losses with 11 bits.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnxconverter-common==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 -W ignore - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from onnxconverter_common import float16 as common
from onnxruntime.transformers import float16 as own

onnxruntime.set_default_logger_severity(3)
random = np.random.default_rng(0)
weight = random.standard_normal((21, 8, 1, 1)).astype(np.float32)
features = random.standard_normal((1, 8, 9, 9)).astype(np.float32)


def segmenter(enlarge: bool):
    nodes = [helper.make_node("Conv", ["features", "weight"], ["small" if enlarge else "scores"], name="head")]
    if enlarge:
        nodes.append(helper.make_node("Resize", ["small", "", "scales"], ["scores"], name="enlarge", mode="linear"))
    side = 36 if enlarge else 9
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 8, 9, 9])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 21, side, side])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def steps(model) -> str:
    """The nodes from the image to the answer, the last one last; casts with what they give."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found, name = [], model.graph.output[0].name
    while name in makers:
        node = makers[name]
        kind = [attribute.i for attribute in node.attribute if node.op_type == "Cast" and attribute.name == "to"]
        found.append(" to ".join([node.op_type, *(TensorProto.DataType.Name(number).lower() for number in kind)]))
        name = node.input[0]
    return ", ".join(reversed(found))


print(
    f"onnxconverter-common {importlib.metadata.version('onnxconverter-common')}, ONNX Runtime {onnxruntime.__version__}"
)
kinds, found = {}, {}
for converter, module in (("onnxconverter-common", common), ("onnxruntime.transformers", own)):
    for enlarge in (False, True):
        model = module.convert_float_to_float16(segmenter(enlarge), keep_io_types=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, {"features": features})
        kinds[converter, enlarge] = session.get_inputs()[0].type, scores.dtype.name
        found[converter, enlarge] = steps(model)
        last = "Resize" if enlarge else "Conv"
        print(f"{converter}, {last} last: input {kinds[converter, enlarge][0]}, output {scores.dtype}")
        print(f"  its nodes: {found[converter, enlarge]}")
listed = "Resize" in common.DEFAULT_OP_BLOCK_LIST
print(f"Resize is in the list of what onnxconverter-common leaves in float32: {listed}")
assert kinds["onnxconverter-common", True] == ("tensor(float)", "float16"), "the behaviour has changed"
assert listed, "the behaviour has changed"
assert (
    found["onnxconverter-common", True]
    == "Cast to float16, Conv, Cast to float, Resize, Cast to float16"  # float is ONNX's name of float32
), "the behaviour has changed"
assert found["onnxconverter-common", False].endswith(", Cast to float"), "the behaviour has changed"
del kinds["onnxconverter-common", True]
assert set(kinds.values()) == {("tensor(float)", "float32")}, "the behaviour has changed"
PYTHON
