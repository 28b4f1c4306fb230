#!/bin/bash
# nnef-tools makes other shapes of a Flatten whose axis is not 1.
#
# Expected: ONNX's Flatten always gives a matrix; the sizes before its axis are multiplied to the rows, those from it on
# to the columns. The converter writes NNEF's reshape with the same two sizes.
# Seen with nnef-tools 1.0.11: with the axis 2 a map of 2 x 3 x 4 x 5 becomes 2 x 3 x 20 and not 6 x 20; with the axis 0
# or -1 it becomes a row of 120 numbers, and not 1 x 120 or 24 x 5. With the axis 1, that of every classifier, it is
# right. Nothing is said; NNEF's own parser infers the other shapes from the file.
# Why it matters: a head that takes each place of a map as a row, as those of detectors do, gets one long row, and the
# file is made all the same.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    nnef-tools==1.0.11 nnef==1.0.10 future==1.0.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import subprocess
import sys

import nnef
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

packages = ("nnef-tools", "nnef", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
image = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
for axis, right, seen in (
    (1, (2, 60), (2, 60)),
    (2, (6, 20), (2, 3, 20)),
    (0, (1, 120), (120,)),
    (-1, (24, 5), (120,)),
):
    name = f"axis_{axis % 4}"
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["answer"], axis=axis)],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, right)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, f"{name}.onnx")
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": image})[0].shape == right
    command = [sys.executable, "-m", "nnef_tools.convert", "--input-format", "onnx", "--output-format", "nnef"]
    subprocess.run([*command, "--input-model", f"{name}.onnx", "--output-model", f"{name}.nnef"], check=True,
                   stdout=subprocess.DEVNULL)
    found = nnef.load_graph(f"{name}.nnef")
    nnef.infer_shapes(found)
    (output,) = found.operations[-1].outputs.values()
    shape = tuple(found.tensors[output].shape)
    print(f"axis {axis}: ONNX Runtime gives {right}, the NNEF file {shape}")
    assert shape == seen, "the behaviour has changed"
PYTHON
