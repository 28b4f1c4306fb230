#!/bin/bash
# onnion divides whole numbers into fractions.
#
# Expected: Div of int64 numbers gives int64 numbers and drops the rest: 29 / 8 is 3, as ONNX says and ONNX Runtime
# does.
# Seen with onnion-rt 0.8.0: 29 / 8 is the float64 3.625. The operator is NumPy's true division for all types.
# Why it matters: the program is made for what comes behind a network: the number of the best place of a map, divided by
# its width, is the row of a key point. The program gives a row between two rows, up to nearly a whole one too low, and
# of another type.
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
        [helper.make_tensor_value_info("answer", kind, [None] * 1)],
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
heat = np.zeros((2, 48), np.float32)  # two maps of 6 rows and 8 columns
heat[0, 29] = heat[1, 16] = 1  # row 3, column 5; row 2, column 0
nodes = [
    helper.make_node("ArgMax", ["heat"], ["place"], axis=1, keepdims=0),
    helper.make_node("Div", ["place", "width"], ["answer"]),
]
runtime, found = answers("row", nodes, {"heat": heat}, TensorProto.INT64, {"width": np.array(8)})
print(f"rows of the best places: ONNX Runtime {runtime.tolist()} ({runtime.dtype}), "
      f"onnion {found.tolist()} ({found.dtype})")
assert runtime.tolist() == [29 // 8, 16 // 8] == [3, 2] and runtime.dtype == np.int64
assert found.tolist() == [3.625, 2.0] and found.dtype == np.float64, "the behaviour has changed"

# the nearest multiple of 32 below a size
nodes = [helper.make_node("Div", ["size", "step"], ["times"]), helper.make_node("Mul", ["times", "step"], ["answer"])]
size = np.array([427, 640])
runtime, found = answers("multiple", nodes, {"size": size}, TensorProto.INT64, {"step": np.array(32)})
print(f"multiples of 32 up to {size.tolist()}: ONNX Runtime {runtime.tolist()}, onnion {found.tolist()}")
assert runtime.tolist() == [416, 640]
assert found.tolist() == [427.0, 640.0], "the behaviour has changed"
PYTHON
