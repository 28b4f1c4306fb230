#!/bin/bash
# nnef-tools pads for SAME_LOWER at the wrong end, and much too much if the stride is 2.
#
# Expected: SAME_LOWER pads what SAME_UPPER does, with an odd rest at the beginning: a kernel of 3 with stride 2 on 8
# rows pads one row before and none behind, and gives 4 rows; a kernel of 2 with stride 1 pads one before.
# Seen with nnef-tools 1.0.11: the first is padded by 2 before and 3 behind and gives 6 rows in NNEF's own shape
# inference, and the second by one behind, which is SAME_UPPER. The converter takes the input's size where the output's
# belongs, and gives the rest to the end. Pools are the same.
# Why it matters: the second has the right size, and each map lies a pixel off. Nothing is said.
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
image = np.arange(80, dtype=np.float32).reshape(1, 1, 8, 10)
kernels = {3: np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3), 2: np.ones((1, 1, 2, 2), np.float32)}
cases = (
    (3, 1, [(1, 1), (1, 1)], [(1, 1), (1, 1)], (1, 1, 8, 10)),
    (2, 1, [(1, 0), (1, 0)], [(0, 1), (0, 1)], (1, 1, 8, 10)),
    (3, 2, [(1, 0), (1, 0)], [(2, 3), (3, 3)], (1, 1, 6, 7)),
)


def convolved(padding: list, kernel: np.ndarray, stride: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image[0, 0], padding), kernel.shape[2:])
    return (windows[::stride, ::stride] * kernel[0, 0]).sum((2, 3))[None, None]


for size, stride, right, seen, shape in cases:
    node = helper.make_node("Conv", ["image", "kernel"], ["answer"], auto_pad="SAME_LOWER", strides=[stride] * 2)
    runtime, operation, inferred = answers(f"case_{size}_{stride}", node, image, {"kernel": kernels[size]})
    assert np.array_equal(runtime, convolved(right, kernels[size], stride))
    padding = [tuple(pair) for pair in operation.attribs["padding"]]
    print(f"kernel {size}, stride {stride}: right {right} and {runtime.shape[2:]}, NNEF {padding} and {inferred[2:]}")
    assert padding == seen and inferred == shape, "the behaviour has changed"
    wrong = convolved(padding, kernels[size], stride)
    assert np.array_equal(wrong, runtime) == (right == seen)
PYTHON
