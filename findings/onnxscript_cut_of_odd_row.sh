#!/bin/bash
# onnxscript's optimizer cuts five columns into three and two where the network cuts them into two and three.
#
# Expected: optimize() keeps what a network answers: the columns from 2 to 5, cut out before those from 0 to 2, stay
# these columns.
# Seen with onnxscript 0.7.2: it makes one Split with num_outputs=2 of the two Slices, whenever the cut is at half of
# the columns, rounded down. For five columns ONNX's Split gives three and two. The means of the two parts are then
# those of other columns, and optimize() says nothing; ONNX Runtime 1.32.0 writes a warning about a shape, and runs it.
# Six columns, and five whose first part is cut out first, are right. In a file of opset 13 six columns, too, make one
# that cannot be loaded, since num_outputs came with opset 18.
# Why it matters: x, y | width, height, score are five columns of a detector, and optimize() is what one runs on a file
# before it is shipped.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnxscript==0.7.2 onnx-ir==1.1.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from onnxscript import optimizer


def network(columns: int, opset: int, last_first: bool):
    """The largest values of the columns before the middle, and of those behind it."""
    nodes = [
        helper.make_node("Slice", ["table", "zero", "middle", "last_axis"], ["before"]),
        helper.make_node("Slice", ["table", "middle", "end", "last_axis"], ["behind"]),
    ]
    nodes = nodes[::-1] if last_first else nodes
    for name in ("before", "behind"):
        attributes = {"axes": [-1]} if opset < 18 else {}
        inputs = [name] if opset < 18 else [name, "last_axis"]
        nodes.append(helper.make_node("ReduceMax", inputs, [f"largest_{name}"], **attributes))
    numbers = {"zero": 0, "middle": columns // 2, "end": columns, "last_axis": -1}
    graph = helper.make_graph(
        nodes,
        "parts",
        [helper.make_tensor_value_info("table", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info(f"largest_{n}", TensorProto.FLOAT, ["rows", 1]) for n in ("before", "behind")],
        [numpy_helper.from_array(np.array([number]), name) for name, number in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def answer(model, columns: int) -> list[float] | str:
    """The answer for 0, 1, 2 and so on, or "cannot be loaded"."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        assert "num_outputs" in str(error), "the behaviour has changed"
        return "cannot be loaded"
    return [part.item() for part in session.run(None, {"table": np.arange(columns, dtype=np.float32)[None]})]


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnxscript", "onnx-ir", "onnxruntime")))
for columns, opset, last_first, right, seen in (
    (5, 18, True, [1.0, 4.0], [2.0, 4.0]),
    (5, 18, False, [1.0, 4.0], [1.0, 4.0]),
    (6, 18, True, [2.0, 5.0], [2.0, 5.0]),
    (6, 13, True, [2.0, 5.0], "cannot be loaded"),
):
    model = network(columns, opset, last_first)
    optimized = optimizer.optimize(model)
    answers = [answer(model, columns), answer(optimized, columns)]
    order = "last part first" if last_first else "first part first"
    print(f"{columns} columns, opset {opset}, {order}: {answers[0]}, optimized {answers[1]}")
    assert answers == [right, seen], "the behaviour has changed"
    assert last_first == ("Split" in [node.op_type for node in optimized.graph.node]), "the behaviour has changed"
PYTHON
