#!/bin/bash
# nnef-tools drops the alpha of an ONNX Elu, and alpha and gamma of a Selu, and so makes those with other numbers.
#
# Expected: Elu with alpha 0.3 becomes NNEF's elu(x, alpha = 0.3); NNEF has that parameter, with the default 1.
# Seen with nnef-tools 1.0.11: the file says elu(x), which is the one with alpha 1: for -2 it gives -0.865 instead of
# -0.259. Selu is the same. LeakyRelu keeps its alpha.
# Why it matters: the network in the file is another one wherever a value is below 0, and the converter is silent.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-compile --disable-pip-version-check --root-user-action ignore --target "$folder" \
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
from onnx import TensorProto, helper, numpy_helper


def answers(name: str, node: onnx.NodeProto, image: np.ndarray, constants: dict) -> tuple[np.ndarray, object, tuple]:
    """What ONNX Runtime says, and the operation of the NNEF file with the sizes that NNEF's own parser infers."""
    graph = helper.make_graph(
        [node],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None] * image.ndim)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, f"{name}.onnx")
    command = [sys.executable, "-m", "nnef_tools.convert", "--input-format", "onnx", "--output-format", "nnef"]
    subprocess.run([*command, "--input-model", f"{name}.onnx", "--output-model", f"{name}.nnef"], check=True,
                   stdout=subprocess.DEVNULL)
    found = nnef.load_graph(f"{name}.nnef")
    nnef.infer_shapes(found)
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    (runtime,) = session.run(None, {"image": image})
    operation = found.operations[-1]
    (output,) = operation.outputs.values()
    return runtime, operation, tuple(found.tensors[output].shape)


packages = ("nnef-tools", "nnef", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
image = np.array([[-2, -1, -0.5, 0.5, 1]], np.float32)
cases = (
    ("LeakyRelu", {"alpha": 0.3}, {"alpha": 0.3}),
    ("Elu", {"alpha": 0.3}, {"alpha": 1.0}),
    ("Selu", {"alpha": 2.0, "gamma": 0.5}, {"alpha": 1.67326319, "lambda": 1.05070102}),
)
for kind, asked, left in cases:
    node = helper.make_node(kind, ["image"], ["answer"], **asked)
    runtime, operation, _ = answers(kind, node, image, {})
    alpha, factor = asked["alpha"], asked.get("gamma", 1.0)
    below = alpha * image if kind == "LeakyRelu" else factor * alpha * (np.exp(image) - 1)
    assert np.allclose(runtime, np.where(image > 0, factor * image, below), atol=1e-6)
    print(f"{kind} with {asked}: NNEF has {operation.name} with {operation.attribs}; "
          f"ONNX Runtime gives {runtime[0].round(3).tolist()}")
    for key, value in left.items():
        assert abs(operation.attribs.get(key, value) - value) < 1e-6, "the behaviour has changed"
PYTHON
