#!/bin/bash
# onnxscript's optimizer takes the bounds away from two Clips that follow each other, in files of opset 6 to 10.
#
# Expected: optimize() keeps what a network answers: ReLU6 and a clamp to [0, 1] behind it are a clamp to [0, 1]. Up to
# opset 10 the bounds of ONNX's Clip are attributes, from 11 on they are inputs.
# Seen with onnxscript 0.7.2: it joins the two to one Clip with neither attributes nor inputs, which is valid in opset
# 10 and clips nothing: -5 stays -5, and 9 stays 9. Nothing is said. ReLU and a Clip behind it become a Clip with two
# inputs, which ONNX Runtime 1.32.0 cannot load. The same network of opset 11 is right, and so is one Clip of opset 10.
# Why it matters: the files of the ONNX model zoo, and those of older exporters, are of these opsets; the activations of
# such a network have no bound any more, and a score or a pixel leaves [0, 1].
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

VALUES = np.array([[-5, -0.5, 0.5, 3, 9]], np.float32)


def network(layers: list[tuple[float, float] | None], opset: int):
    """Clips with these bounds; None is a ReLU."""
    nodes, constants = [], []
    for i, bounds in enumerate(layers):
        given, found = f"values_{i}", f"values_{i + 1}"
        if bounds is None:
            nodes.append(helper.make_node("Relu", [given], [found]))
        elif opset < 11:
            nodes.append(helper.make_node("Clip", [given], [found], min=bounds[0], max=bounds[1]))
        else:
            names = [f"least_{i}", f"most_{i}"]
            nodes.append(helper.make_node("Clip", [given, *names], [found]))
            constants += [numpy_helper.from_array(np.float32(b), name) for b, name in zip(bounds, names, strict=True)]
    ends = [f"values_{i}" for i in (0, len(layers))]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5])] for name in ends]
    graph = helper.make_graph(nodes, "activations", *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def answer(model) -> list[float] | str:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        assert "Clip" in str(error), "the behaviour has changed"
        return "cannot be loaded"
    return session.run(None, {"values_0": VALUES})[0][0].tolist()


relu6, unit = (0.0, 6.0), (0.0, 1.0)
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnxscript", "onnx-ir", "onnxruntime")))
for layers, opset, seen in (
    ([relu6, unit], 10, VALUES[0].tolist()),
    ([None, relu6], 10, "cannot be loaded"),
    ([unit], 10, [0.0, 0.0, 0.5, 1.0, 1.0]),
    ([relu6, unit], 11, [0.0, 0.0, 0.5, 1.0, 1.0]),
    ([None, relu6], 11, [0.0, 0.0, 0.5, 3.0, 6.0]),
):
    model = network(layers, opset)
    right = VALUES.copy()
    for bounds in layers:
        right = np.maximum(right, 0) if bounds is None else np.clip(right, *bounds)
    optimized = optimizer.optimize(model)
    answers = [answer(model), answer(optimized)]
    kinds = ", ".join("ReLU" if bounds is None else f"Clip {bounds}" for bounds in layers)
    print(f"opset {opset}, {kinds}: {answers[0]}, optimized {answers[1]}")
    assert answers == [right[0].tolist(), seen], "the behaviour has changed"
PYTHON
