#!/bin/bash
# hls4ml takes 0.01 for the alpha of an ONNX Elu or ThresholdedRelu that leaves it out, where ONNX has 1.
#
# Expected: an attribute that a file leaves out has the default of ONNX: alpha is 1 for Elu and for ThresholdedRelu, and
# 0.01 for LeakyRelu.
# Seen with hls4ml 1.3.0 (its C++ model, for which it needs g++): it is 0.01 for all three. An ELU without it is nearly
# a ReLU, -2 becomes -0.01 instead of -0.86, and a ThresholdedRelu lets 0.5 pass. Nothing is said. With the attribute in
# the file, alpha=1, the answers are right to the steps of its fixed-point numbers, and LeakyRelu is right without it.
# ONNX Runtime 1.32.0 agrees with a reckoning for each.
# Why it matters: a file may leave out what is the default, and hls4ml brings small networks to FPGAs: the activation on
# the chip is another one than the trained one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    hls4ml==1.3.0 qonnx==1.0.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import sys

import hls4ml
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.cleanup import cleanup_model

VALUES = np.array([[-4, -2, -1, -0.5, 0.5, 3]], np.float32)
FORMULAS = {
    "Elu": lambda x, alpha: np.where(x < 0, alpha * (np.exp(x) - 1), x),
    "ThresholdedRelu": lambda x, alpha: np.where(x > alpha, x, 0),
    "LeakyRelu": lambda x, alpha: np.where(x < 0, alpha * x, x),
}


def answers(operator: str, alpha: dict[str, float], place: str) -> dict[str, np.ndarray]:
    graph = helper.make_graph(
        [helper.make_node(operator, ["values"], ["activated"], name="activation", **alpha)],
        "activation",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, list(VALUES.shape))],
        [helper.make_tensor_value_info("activated", TensorProto.FLOAT, list(VALUES.shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with contextlib.redirect_stdout(io.StringIO()):
        network = cleanup_model(ModelWrapper(model))
        config = hls4ml.utils.config_from_onnx_model(network, granularity="name", backend="Vivado")
        converted = hls4ml.converters.convert_from_onnx_model(
            network, output_dir=place, backend="Vivado", hls_config=config
        )
        converted.compile()
        on_chip = converted.predict(VALUES)
    return {"hls4ml": on_chip, "ONNX Runtime": session.run(None, {"values": VALUES})[0][0]}


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("hls4ml", "qonnx", "onnxruntime")))
for i, (operator, alpha, right, seen) in enumerate(
    (
        ("Elu", {}, 1, 0.01),
        ("Elu", {"alpha": 1.0}, 1, 1),
        ("ThresholdedRelu", {}, 1, 0.01),
        ("ThresholdedRelu", {"alpha": 1.0}, 1, 1),
        ("LeakyRelu", {}, 0.01, 0.01),
    )
):
    found = answers(operator, alpha, f"{sys.argv[1]}/network_{i}")
    print(f"{operator} {alpha}: { {name: [f'{v:.2f}' for v in answer] for name, answer in found.items()} }")
    for name, value in (("ONNX Runtime", right), ("hls4ml", seen)):
        reckoned = FORMULAS[operator](VALUES[0], value)
        assert np.abs(found[name] - reckoned).max() < 0.01, "the behaviour has changed"
PYTHON
